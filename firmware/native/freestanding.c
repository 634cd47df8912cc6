// What the compiler may call in code that is linked without a C library: x64 native modules are, because the C
// library's memcpy is chosen at load time (IFUNC), which a module loaded by MicroPython never gets to do.
// Built with -fno-tree-loop-distribute-patterns, or the loops below would become calls of themselves.

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t size) {
    char *out = to;
    const char *in = from;
    while (size--) {
        *out++ = *in++;
    }
    return to;
}

void *memset(void *to, int value, size_t size) {
    char *out = to;
    while (size--) {
        *out++ = (char)value;
    }
    return to;
}
