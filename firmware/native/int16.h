// Features as the int16 that a model of dtype int16 takes: without their lowest bits, and held at the ends of the range.

#ifndef EW_INT16_H
#define EW_INT16_H

#include <stdint.h>

// The highest is 32766, so that a tree's x < 32767 is always true (model_export/detectors/numbers.py).
static inline int16_t ew_int16(int32_t x, int shift) {
    int32_t y = x >> shift;
    return (int16_t)(y > 32766 ? 32766 : y < -32767 ? -32767 : y);
}

#endif // EW_INT16_H
