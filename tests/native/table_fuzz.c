// Feeds a blob in which one thing is wrong to ew_forest_check, again and again, each in a block of exactly its size:
//     table_fuzz BLOB COUNT SEED
// Prints how many were taken. A third are changed bytes, a third truncations, a third lengths that lie under a right CRC.

#include "fuzzed_blob.h"
#include "table_forest.h"

static void put(uint8_t *p, uint32_t value, int size) {
    for (int i = 0; i < size; i++) {
        p[i] = (uint8_t)(value >> 8 * i);
    }
}

int main(int argc, char **argv) {
    static uint8_t blob[1 << 18];
    uint32_t size = begin(argc, argv, blob, sizeof blob);
    if (!size) {
        return 2;
    }
    if (ew_forest_check(blob, size) != EW_TABLE_OK) {
        return 3;
    }
    uint32_t trees_at = size - ew_u32(blob + 44);
    const uint32_t lengths[7][2] = {{6, 2}, {8, 4}, {16, 2}, {18, 2}, {44, 4}, {trees_at, 2}, {size - 2, 2}};
    long taken = 0;
    for (long i = atol(argv[2]); i > 0; i--) {
        uint32_t length = i % 3 == 1 ? next_random() % size : size;
        uint8_t *copy = malloc(length ? length : 1);
        memcpy(copy, blob, length);
        if (i % 3 == 0) {
            copy[next_random() % size] ^= (uint8_t)(1 + next_random() % 255);
        } else if (i % 3 == 2) {
            const uint32_t *field = lengths[next_random() % 7];
            uint32_t mask = field[1] == 4 ? 0xFFFFFFFFu : 0xFFFFu;
            uint32_t truth = (field[1] == 4 ? ew_u32(copy + field[0]) : ew_u16(copy + field[0]));
            uint32_t lie = (next_random() & 1 ? truth + (next_random() % 17) - 8 : next_random()) & mask;
            if (lie == truth) {
                lie ^= 1;
            }
            put(copy + field[0], lie, (int)field[1]);
            put(copy + 12, ew_crc32(ew_crc32(0, copy, 12), copy + 16, size - 16), 4);
        }
        taken += ew_forest_check(copy, length) == EW_TABLE_OK;
        free(copy);
    }
    printf("%ld\n", taken);
    return 0;
}
