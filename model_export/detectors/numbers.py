"""How a model holds numbers: as float32, or as int16, which halves its tables and lets its inputs be int16 too.

int16 features: x' = x >> shift, held at the ends of int16 instead of wrapping. The estimator is fitted to x', so it
and the board see the same integers; with every shift 0 those are the raw features. int16 parameters: a table of them
has one unit, a power of two, of which each entry is a whole multiple. They are put there after fitting and before the
threshold is chosen, as float32 ones are, so scikit-learn's own estimator holds the numbers that the board holds.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from model_export.detectors.arrays import Vectors

FLOAT32: Final = "float32"
INT16: Final = "int16"
DTYPES: Final = (FLOAT32, INT16)

LIMIT = 32767
# One below the largest int16: of the cuts of a tree, x < 32767 is then always true, and x < -32767 never.
HIGHEST, LOWEST = LIMIT - 1, -LIMIT
# Features in training stay below a quarter of the range: an anomaly lies beyond them, and must not be cut off there.
_HEADROOM = 4


def shifts_for(train: npt.NDArray[np.int32]) -> list[int]:
    """For each feature of train (n, n_features) the bits to shift out so that it and what exceeds it fit int16."""
    largest = np.abs(train.astype(np.int64)).max(axis=0)
    return [max(0, int(value * _HEADROOM - 1).bit_length() - 15) for value in largest]


def as_int16(features: npt.NDArray[np.integer], shifts: list[int]) -> npt.NDArray[np.int32]:
    """x' of raw features (n, n_features), as native/int16.h makes them."""
    shifted = features.astype(np.int64) >> np.array(shifts, dtype=np.int64)
    return np.clip(shifted, LOWEST, HIGHEST).astype(np.int32)


def settled(values: Vectors, dtype: str) -> Vectors:
    """Values rounded to float32, or to whole multiples of their table's unit, as float64."""
    if dtype == FLOAT32:
        return values.astype(np.float32).astype(np.float64)
    whole, unit = grid(values)
    return whole * unit


def grid(values: Vectors) -> tuple[npt.NDArray[np.float64], float]:
    """(whole multiples, within int16, and their unit) nearest to the values; gives settled values back unchanged."""
    largest = float(np.abs(values).max(initial=0.0))
    unit = 2.0 ** np.ceil(np.log2(largest / LIMIT)) if largest else 1.0
    return np.rint(values / unit), unit
