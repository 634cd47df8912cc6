"""Proof that a compiled model decides as scikit-learn does: both score the same points, the model under MicroPython."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_export import adversarial, runtime
from model_export.compile import table_import, table_modules
from model_export.errors import ModelError
from model_export.model import Model

DEFAULT_POINTS = 4000

_NATIVE = """
import model
n = model.n_features()
"""
_TABLE = """
{opening}
with open('blob', 'rb') as file:
    model = Table(bytearray(file.read()))
model.check()
n = model.n_features
"""
_SCORER = """
from array import array
row = array('i', [0] * n)
score = array('f', [0.0])
with open('points', 'rb') as points, open('scores', 'wb') as scores:
    while points.readinto(row) == 4 * n:
        score[0] = model.score(row)
        scores.write(score)
"""


@dataclass(frozen=True, slots=True)
class Parity:
    """The outcome over `points` vectors. Differences are absolute within reach of the threshold (up to twice its
    distance from the median window); beyond, where only the decision counts, they are in parts of the score or of the
    threshold, whichever is larger."""

    points: int
    decisions_differing: int
    largest_difference: float
    largest_relative_difference: float


def native_scores(mpy: bytes, points: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Scores of int32 (n, n_features) by a native module under this machine's MicroPython: float32 (n,)."""
    return _scores({"model.mpy": mpy}, _NATIVE, points)


def table_scores(blob: bytes, points: npt.NDArray[np.int32], plain: bool = False) -> npt.NDArray[np.float32]:
    """Scores of int32 (n, n_features) by a table blob and the firmware's own scorer: float32 (n,).

    plain: as on a port that runs no machine code.
    """
    files = table_modules("x64")
    if plain:
        del files["device/table_viper.mpy"]
    return _scores(files | {"blob": blob}, _TABLE.format(opening=table_import(blob)), points)


def _scores(files: dict[str, bytes], opening: str, points: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Scores of the `model` that a script opens, with `files` in its folder."""
    with tempfile.TemporaryDirectory(prefix="edgewise-parity-") as work:
        folder = Path(work)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        np.ascontiguousarray(points, dtype=np.int32).tofile(folder / "points")
        runtime.run(opening + _SCORER, [], folder)
        scores = np.fromfile(folder / "scores", dtype=np.float32)
    if len(scores) != len(points):
        raise ModelError("parity", f"the compiled model gave {len(scores)} scores for {len(points)} points")
    return scores


def points_for(model: Model, count: int = DEFAULT_POINTS) -> npt.NDArray[np.int32]:
    """Every training and held-out window and `count` adversarial points."""
    seen = np.concatenate((model.train, model.held_out))
    return np.concatenate((seen, adversarial.points(model.scores, model.threshold, seen, count)))


def compare(model: Model, points: npt.NDArray[np.int32], scores: npt.NDArray[np.float32]) -> Parity:
    """How the board's scores compare with scikit-learn's."""
    reference = model.scores(points)
    ours = scores.astype(np.float64)
    differing = int(np.count_nonzero((ours > model.threshold) != (reference > model.threshold)))
    difference = np.abs(ours - reference)
    center = float(np.median(model.scores(model.train)))
    near = np.abs(reference - center) <= 2 * abs(model.threshold - center)
    scale = np.maximum(np.abs(reference), max(abs(model.threshold), 1e-30))
    return Parity(
        points=len(points),
        decisions_differing=differing,
        largest_difference=_largest(difference[near]),
        largest_relative_difference=_largest((difference / scale)[~near]),
    )


def require(parity: Parity, model: Model) -> None:
    """Raises ModelError(parity) unless every decision agreed."""
    if parity.decisions_differing:
        raise ModelError(
            "parity",
            f"the compiled {model.card['detector']} decides {parity.decisions_differing} of {parity.points} points "
            "otherwise than scikit-learn: no artifact was written. Please report this with the model folder",
        )


def require_same(host: npt.NDArray[np.float32], target: npt.NDArray[np.float32], arch: str) -> None:
    """Raises ModelError(parity) unless the target's scores are the host's to the last bit."""
    differing = int(np.count_nonzero(host.view(np.int32) != target.view(np.int32)))
    if differing:
        raise ModelError(
            "parity",
            f"{differing} of {len(host)} scores on {arch} are not those of this machine: no artifact was written. "
            "Please report this with the model folder and the version of the compiler",
        )


def _largest(values: npt.NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else 0.0
