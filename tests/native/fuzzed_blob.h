// What programs that damage a blob share: repeatable random numbers, and the blob itself.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t state;

static uint32_t next_random(void) { // xorshift32 (Marsaglia, 2003)
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

// Takes BLOB COUNT SEED from the command line; returns the bytes read into blob, at most room, 0 without a file.
static uint32_t begin(int argc, char **argv, uint8_t *blob, size_t room) {
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        return 0;
    }
    uint32_t size = (uint32_t)fread(blob, 1, room, file);
    fclose(file);
    state = (uint32_t)atoi(argv[3]) | 1;
    return size;
}
