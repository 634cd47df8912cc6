// Features of the level the ESP32 port has; where words are 32 bits wide, a chip's numbers and its stack, too.
#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)

#if defined(__i386__) && !defined(MICROPY_FLOAT_IMPL)
#define MICROPY_FLOAT_IMPL (MICROPY_FLOAT_IMPL_FLOAT)
#endif

#if defined(__i386__)
// An ESP32 runs Python in 16 kB, of which it keeps 1 (ports/esp32/mpconfigport.h), this port in 40,000 bytes. A level of
// recursion takes 328 bytes on both, but each import lays a path on the stack, of PATH_MAX here and of 128 bytes there.
#include <limits.h>
#undef PATH_MAX
#define PATH_MAX (512)
#define MICROPY_STACK_CHECK_MARGIN (40000 - 15 * 1024)
#endif

#include "mpconfigvariant_common.h"
