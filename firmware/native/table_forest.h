// Scores the forest of a table blob where it lies: no copy, no heap. contract/table.py says what every byte means.
//
// ew_forest_check reads every byte of a blob that nobody vouches for; ew_forest_score trusts one that passed. Both want
// a little-endian machine, and ew_forest_score a blob at a multiple of 4.

#ifndef EW_TABLE_FOREST_H
#define EW_TABLE_FOREST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "forest.h"

enum {
    EW_TABLE_OK = 0,
    EW_TABLE_CUT = -1,    // fewer bytes than its header says, or more
    EW_TABLE_HEADER = -2, // magic, kind, features, or a number out of its range
    EW_TABLE_CRC = -3,
    EW_TABLE_VALUE = -4, // a leaf value
    EW_TABLE_TREE = -5,  // a tree that is none
};

enum {
    EW_TABLE_HEADER_BYTES = 16,
    EW_FOREST_BYTES = 48,
    EW_FOREST_DIGEST_BYTES = 8,
    EW_FOREST_LEFTS = 64,
    EW_FOREST_FEATURES = 128,
};

// A blob may be declared as an array of anything: what reads it may alias.
typedef uint16_t __attribute__((may_alias)) ew_half_t;
typedef int32_t __attribute__((may_alias)) ew_word_t;

// The forest's part of the header, at byte 16.
typedef struct __attribute__((may_alias)) {
    uint16_t trees;
    uint16_t values;
    uint8_t shape;
    uint8_t fraction;
    uint16_t zero;
    float scale;
    float threshold;
    uint32_t limit[2]; // a double at a multiple of 4
    int32_t limit_units;
    uint32_t forest_bytes;
} ew_forest_t;

static inline uint32_t ew_u16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t ew_u32(const uint8_t *p) {
    return ew_u16(p) | ew_u16(p + 2) << 16;
}

// CRC-32 as of zlib, by halves of a byte: 64 bytes of table.
static uint32_t ew_crc32(uint32_t crc, const uint8_t *data, size_t size) {
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    while (size--) {
        crc ^= *data++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

// True where a double is 0 or of a magnitude from 2**-60 to below 2**30.
static inline int ew_is_leaf_value(uint32_t low, uint32_t high) {
    uint32_t exponent = high >> 20 & 0x7FF;
    return (exponent >= 1023 - 60 && exponent <= 1023 + 29) || !(low | high << 1);
}

// EW_TABLE_OK when the `size` bytes are one whole tree in preorder that leads nowhere else.
static int ew_forest_check_tree(const uint8_t *tree, uint32_t size, uint32_t n_features, uint32_t values) {
    uint32_t rights[EW_FOREST_LEFTS];
    int pending = 0;
    uint32_t end = size / 2;
    uint32_t at = 1;
    while (at < end) {
        const uint8_t *node = tree + 2 * at;
        uint32_t low = node[0];
        uint32_t high = node[1];
        uint32_t words = high || low == 0x7F ? 2 : low >= 0x80 ? 4 : 1;
        if (words > end - at) {
            return EW_TABLE_TREE;
        }
        at += words;
        if (!high && low <= 0x7F) {
            uint32_t value = words == 1 ? low : ew_u16(node + 2);
            if (value >= values || (pending ? rights[--pending] : end) != at) {
                return EW_TABLE_TREE;
            }
            continue;
        }
        uint32_t feature = high ? high - 1 : low - 0x80;
        uint32_t skip = high ? low : ew_u16(node + 6);
        if (feature >= n_features || skip < 1 || at + skip >= end || pending == EW_FOREST_LEFTS) {
            return EW_TABLE_TREE;
        }
        rights[pending++] = at + skip;
    }
    return pending || end < 2 ? EW_TABLE_TREE : EW_TABLE_OK;
}

// EW_TABLE_OK when every number between the header and the trees is within its range.
static int ew_forest_check_numbers(const uint8_t *data, uint32_t n_features, uint32_t trees, uint32_t values) {
    int32_t highest = (1 << 30) / (int32_t)trees;
    const uint8_t *units = data + EW_FOREST_BYTES + 8 * values;
    for (uint32_t i = 0; i < values; i++) {
        const uint8_t *value = data + EW_FOREST_BYTES + 8 * i;
        int32_t unit = (int32_t)ew_u32(units + 4 * i);
        if (!ew_is_leaf_value(ew_u32(value), ew_u32(value + 4)) || unit < -highest || unit > highest) {
            return EW_TABLE_VALUE;
        }
    }
    for (uint32_t i = 0; i < n_features; i++) {
        int32_t bias = (int32_t)ew_u32(units + 4 * values + 4 * i);
        if (bias < -(1 << 30) || bias > 1 << 30) {
            return EW_TABLE_VALUE;
        }
    }
    return EW_TABLE_OK;
}

// EW_TABLE_OK when the `size` bytes at `data`, at any address, are a forest that ew_forest_score may be given. The
// digests of the trees go unread: the CRC covers the same bytes.
static int ew_forest_check(const uint8_t *data, size_t size) {
    if (size < EW_FOREST_BYTES) {
        return EW_TABLE_CUT;
    }
    if (ew_u32(data) != 0x31545745 || ew_u16(data + 4) != 1) { // "EWT1", a forest
        return EW_TABLE_HEADER;
    }
    uint32_t n_features = ew_u16(data + 6);
    uint32_t trees = ew_u16(data + 16);
    uint32_t values = ew_u16(data + 18);
    int32_t limit = (int32_t)ew_u32(data + 40);
    uint32_t scale = ew_u32(data + 24) >> 23; // sign and exponent
    if (n_features < 1 || n_features > EW_FOREST_FEATURES || trees < 1 || trees > 1024 || values < 1 ||
        values > 16384 || data[20] > 1 || data[21] > 20 || ew_u16(data + 22) || limit < -(1 << 30) ||
        limit > 1 << 30 || scale < 127 - 60 || scale > 127 + 29 || (data[31] & 0x7F) == 0x7F || (data[39] & 0x7F) == 0x7F) {
        return EW_TABLE_HEADER;
    }
    uint64_t at = EW_FOREST_BYTES + 12 * values + 4 * n_features + EW_FOREST_DIGEST_BYTES * trees;
    if (ew_u32(data + 8) != size || at + ew_u32(data + 44) != size || at + 2 > size) {
        return EW_TABLE_CUT;
    }
    uint32_t crc = ew_crc32(ew_crc32(0, data, 12), data + EW_TABLE_HEADER_BYTES, size - EW_TABLE_HEADER_BYTES);
    if (crc != ew_u32(data + 12)) {
        return EW_TABLE_CRC;
    }
    if (ew_forest_check_numbers(data, n_features, trees, values) != EW_TABLE_OK) {
        return EW_TABLE_VALUE;
    }
    for (uint32_t i = 0; i < trees; i++) {
        uint32_t tree_size = at + 4 <= size ? ew_u16(data + at) : 0;
        if (tree_size < 4 || tree_size & 1 || tree_size > size - 2 - at ||
            ew_forest_check_tree(data + at, tree_size, n_features, values) != EW_TABLE_OK) {
            return EW_TABLE_TREE;
        }
        at += tree_size;
    }
    return at + 2 == size && !ew_u16(data + at) ? EW_TABLE_OK : EW_TABLE_TREE;
}

// The index of the leaf that features end in from the first node of a tree on; shifted[1 + f] is x[f] + bias[f].
static inline uint32_t ew_forest_leaf(const uint8_t *node, const int32_t *shifted) {
    for (;;) {
        uint32_t high;
        while ((high = node[1])) {
            if (shifted[high] > *(const ew_half_t *)(node + 2)) {
                node += 2 * node[0];
            }
            node += 4;
        }
        uint32_t low = node[0];
        if (low < 0x7F) {
            return low;
        }
        if (low == 0x7F) {
            return *(const ew_half_t *)(node + 2);
        }
        int32_t bound = (int32_t)(*(const ew_half_t *)(node + 2) | (uint32_t)*(const ew_half_t *)(node + 4) << 16);
        if (shifted[low - 0x7F] > bound) {
            node += 2 * *(const ew_half_t *)(node + 6);
        }
        node += 8;
    }
}

// The sum of the leaf values in double precision, in scikit-learn's order. Apart, and rarely called.
static double __attribute__((noinline)) ew_forest_sum(const uint8_t *tree, const uint8_t *values,
    const int32_t *shifted) {
    double sum = 0.0;
    uint32_t size;
    while ((size = *(const ew_half_t *)tree)) {
        double value;
        memcpy(&value, values + 8 * ew_forest_leaf(tree + 2, shifted), sizeof value);
        sum += value;
        tree += size;
    }
    return sum;
}

// The score of x, (n_features,), by a blob that ew_forest_check passed: above the threshold exactly when
// scikit-learn's is.
static float ew_forest_score(const uint8_t *data, const int32_t *x) {
    const ew_forest_t *head = (const ew_forest_t *)(data + EW_TABLE_HEADER_BYTES);
    const ew_word_t *units = (const ew_word_t *)(data + EW_FOREST_BYTES + 8 * head->values);
    const ew_word_t *bias = units + head->values;
    int n_features = data[6];
    int32_t shifted[EW_FOREST_FEATURES + 1];
    for (int i = 0; i < n_features; i++) {
        shifted[i + 1] = (int32_t)((uint32_t)x[i] + (uint32_t)bias[i]);
    }
    const uint8_t *forest = (const uint8_t *)(bias + n_features) + EW_FOREST_DIGEST_BYTES * head->trees;
    const uint8_t *tree = forest;
    int32_t sum = 0;
    uint32_t size;
    while ((size = *(const ew_half_t *)tree)) {
        sum += units[ew_forest_leaf(tree + 2, shifted)];
        tree += size;
    }
    int anomalous = sum > head->limit_units;
    if (ew_forest_in_doubt(sum, head->limit_units, head->trees / 2 + 1)) {
        double limit;
        memcpy(&limit, head->limit, sizeof limit);
        anomalous = ew_forest_sum(forest, data + EW_FOREST_BYTES, shifted) > limit;
    }
    float scaled = (float)sum * ew_scale_f(head->scale, -head->fraction);
    return ew_forest_side(head->shape ? ew_exp2_f(scaled) : scaled, head->threshold, anomalous);
}

#endif // EW_TABLE_FOREST_H
