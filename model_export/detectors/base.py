"""What every detector gives: a scikit-learn estimator, one score (higher is more anomalous), and C for the board."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model_export.detectors.scaling import Affine


class Detector(Protocol):
    """One kind of estimator. Implementations hold no state."""

    name: str
    """As written on the command line and in manifests."""
    estimators: tuple[type, ...]
    """The scikit-learn classes it can export."""

    def build(self, seed: int, settings: dict[str, Any]) -> Any:
        """An unfitted estimator or Pipeline; `settings` are scikit-learn's own parameters."""
        ...

    def scores(self, estimator: Any, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """scikit-learn's scores, float64 (n,), for values already scaled; the reference for every parity check."""
        ...

    def c_source(self, estimator: Any, affine: Affine, threshold: float) -> str:
        """C99 that defines `static float model_score(const int32_t *x)` on raw integer features.

        `score > threshold` must be decided as by `scores`; threshold is float32-exact.
        """
        ...


def c_array(name: str, values: npt.NDArray[Any], c_type: str) -> str:
    """A constant C array; floats are written exactly, as hexadecimal constants."""
    flat = np.asarray(values).ravel()
    suffix = "f" if c_type == "float" else ""
    if c_type in ("float", "double"):
        exact = (float(np.float32(value)) if suffix else float(value) for value in flat)
        items = [value.hex() + suffix for value in exact]
    else:
        items = [str(int(value)) for value in flat]
    lines = [", ".join(items[i : i + 6]) for i in range(0, len(items), 6)]
    return f"static const {c_type} {name}[{len(items)}] = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def c_float(value: float) -> str:
    """A float constant, exact."""
    return float(np.float32(value)).hex() + "f"
