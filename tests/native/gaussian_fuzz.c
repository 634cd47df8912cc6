// Scores a Gaussian in which bytes are changed or cut off, again and again, each in a block of exactly its size:
//     gaussian_fuzz BLOB COUNT SEED
// Prints how many were scored and how many refused.

#include "fuzzed_blob.h"
#include "table_gaussian.h"

int main(int argc, char **argv) {
    static uint8_t blob[1 << 16];
    uint32_t size = begin(argc, argv, blob, sizeof blob);
    if (!size) {
        return 2;
    }
    long scored = 0;
    long refused = 0;
    for (long i = atol(argv[2]); i > 0; i--) {
        uint32_t length = i % 3 ? size : next_random() % size;
        uint8_t *copy = malloc(length ? length : 1);
        memcpy(copy, blob, length);
        for (uint32_t k = next_random() % 40; k > 0 && length; k--) {
            copy[next_random() % length] = (uint8_t)next_random();
        }
        if (i % 3 == 2 && length > 8) { // another number of features under the same size
            copy[6] = (uint8_t)next_random();
        }
        if (ew_table_gaussian_fits(copy, length)) {
            int n = (int)ew_u16(copy + 6);
            int32_t *features = malloc(4 * (size_t)n);
            for (int f = 0; f < n; f++) {
                features[f] = (int32_t)next_random() >> next_random() % 31;
            }
            volatile float score = ew_table_gaussian_score(copy, features);
            (void)score;
            scored++;
            free(features);
        } else {
            refused++;
        }
        free(copy);
    }
    printf("%ld %ld\n", scored, refused);
    return 0;
}
