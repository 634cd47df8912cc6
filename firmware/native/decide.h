// Scores are handed over as float32 and decisions taken by `score > threshold`: here both are made to agree with
// scikit-learn, which scores in double precision.
//
// A score is first computed in float. Its error is at most `guard` (model_export derives it for every model), so only
// within the guard of the threshold could the decision differ, and only there the score is computed again in double: on
// a chip without a double unit the costly path runs for the few windows that are in doubt.

#ifndef EW_DECIDE_H
#define EW_DECIDE_H

// True where a float score leaves the decision open; also for a score that is not a number.
static inline int ew_in_doubt(float score, float threshold, float guard) {
    return !(score > threshold + guard || score < threshold - guard);
}

// True where a coordinate lies outside the range that the guard was derived for. z: (n,).
static inline int ew_out_of_reach(const float *z, int n, float reach) {
    for (int i = 0; i < n; i++) {
        if (!(z[i] <= reach && z[i] >= -reach)) {
            return 1;
        }
    }
    return 0;
}

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
