// Scores are handed over as float32, decisions are made by `score > threshold` on the board.

#ifndef EW_DECIDE_H
#define EW_DECIDE_H

// The float nearest to `score` that lies on the same side of `threshold` as `score` itself.
// Rounding alone could carry a score across; one step further it cannot lie, as `threshold` is itself a float.
static inline float ew_decide(double score, float threshold) {
    float rounded = (float)score;
    if (score > (double)threshold && rounded <= threshold) {
        union {
            float value;
            int bits;
        } next = {threshold};
        if (threshold == 0.0f) {
            next.bits = 1; // the least positive float
        } else {
            next.bits += threshold > 0.0f ? 1 : -1;
        }
        rounded = next.value;
    } else if (score <= (double)threshold && rounded > threshold) {
        rounded = threshold;
    }
    return rounded;
}

#endif // EW_DECIDE_H
