"""What every detector gives: a fitted scikit-learn estimator, one score (higher is more anomalous), and C for it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.numbers import FLOAT32


class Detector(Protocol):
    """One kind of estimator. Implementations hold no state."""

    name: str
    """As written on the command line and in manifests."""
    estimators: tuple[type, ...]
    """The scikit-learn classes it can export."""
    supervised: bool
    """True when it is fitted to labels."""

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        """A fitted estimator or Pipeline; `settings` are scikit-learn's own parameters and those the class adds."""
        ...

    def settle(self, estimator: Any, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        """Rounds fitted parameters to float32, or to the int16 of detectors/numbers.py, in place: the board's table and
        scikit-learn then hold the same model. scalers: the fitted ones in front of the estimator."""
        ...

    def scores(self, estimator: Any, values: Vectors) -> Vectors:
        """scikit-learn's scores, float64 (n,), for values already scaled; the reference for every parity check."""
        ...

    def c_source(
        self, estimator: Any, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        """C99 that defines MODEL_FEATURES and `static float model_score(const EW_FEATURE *x)` on raw integer features,
        int32_t, or int16_t as detectors/numbers.py makes them.

        `score > threshold` must be decided as by `scores`; threshold is float32-exact. scalers: the fitted scalers in
        front of the estimator. seen: int32 (n, n_features), windows as the board will meet them.
        """
        ...


@runtime_checkable
class HasTable(Protocol):
    """A detector that can be a table blob (contract/table.py) as well, when it was settled as `table_dtype`."""

    table_dtype: str

    def table(
        self, estimator: Any, scalers: list[Any], threshold: float, shifts: list[int], base: bytes | None = None
    ) -> bytes:
        """The blob; shifts: the bits that each feature loses; base: an earlier blob to stay close to."""
        ...
