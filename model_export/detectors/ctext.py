"""Numbers as C: exact, and the same text for the same number."""

from typing import Any

import numpy as np
import numpy.typing as npt

from model_export.errors import ModelError


def c_array(name: str, values: npt.NDArray[Any], c_type: str) -> str:
    """A constant C array. Floats are hexadecimal constants, exact; raises ModelError when float32 cannot hold them."""
    flat = np.asarray(values).ravel()
    if c_type in ("float", "double"):
        items = [c_float(value) if c_type == "float" else float(value).hex() for value in flat]
    else:
        items = [str(int(value)) for value in flat]
    lines = [", ".join(items[i : i + 6]) for i in range(0, len(items), 6)]
    return f"static const {c_type} {name}[{len(items)}] = {{\n    " + ",\n    ".join(lines) + "\n};"


def c_float(value: float) -> str:
    """A float constant; raises ModelError(bad-model) for a number that is no float32: a model not settled."""
    if float(np.float32(value)) != float(value):
        raise ModelError("bad-model", f"parameter {value!r} is no float32: the model was not settled after fitting")
    return float(value).hex() + "f"


def nearest_float(value: float) -> float:
    """The float32 nearest to a number."""
    return float(np.float32(value))


def float_above(value: float) -> float:
    """A float32 that is not below a positive number."""
    rounded = np.float32(value)
    return float(rounded if rounded >= value else np.nextafter(rounded, np.float32(np.inf)))
