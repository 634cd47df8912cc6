"""Scores of a whole recording as a board gives them: features and compiled model under MicroPython, one process."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

import contract
from contract import artifact
from model_export import package, runtime
from model_export.data import Series
from model_export.keys import PublisherKey
from model_export.model import Model
from model_export.windows import parse_schema, to_counts

_RELEASE = package.Release("1.0.0", 1_000_000, created=0)

_BOARD = """
import sys
from array import array
from contract.features import Features
import model
features = Features(sys.argv[1])
with open('samples', 'rb') as file:
    samples = memoryview(array('i', file.read()))
vector = array('i', [0] * features.n_features)
score = array('f', [0.0])
step = features.n_channels
size = features.window * step
with open('scores', 'wb') as scores:
    for start in range(0, len(samples) - size + 1, step):
        features.compute_into(samples[start:start + size], vector)
        score[0] = model.score(vector)
        scores.write(score)
"""

_ALARM = """
from contract.wire import EVENT_ANOMALY
from device.alarm import alarm_after
state = 0
with open('alarms', 'rb') as alarms, open('told', 'wb') as told:
    for anomalous in alarms.read():
        state, event = alarm_after(state, anomalous)
        told.write(bytes((event == EVENT_ANOMALY,)))
"""


def export(model: Model, key: PublisherKey) -> bytes:
    """The signed artifact of a model for this machine, its parity with scikit-learn proven on the way."""
    return package.export_native(model, "x64", _RELEASE, key).artifact


def scores(packed: bytes, series: Series) -> npt.NDArray[np.float64]:
    """The score of every window of `series`, (rows - window + 1,), by the artifact's payload under MicroPython.

    Decide by `score > manifest.threshold`. Raises ModelError, with code parity when the program fails.
    """
    _, manifest, _, payload = artifact.split(packed)
    counts = to_counts(series, parse_schema(manifest.schema))
    with tempfile.TemporaryDirectory(prefix="edgewise-evaluate-") as work:
        folder = _with_firmware(work)
        (folder / "model.mpy").write_bytes(payload)
        np.ascontiguousarray(counts).tofile(folder / "samples")
        runtime.run(_BOARD, [manifest.schema], folder)
        given = np.fromfile(folder / "scores", dtype=np.float32)
    return given.astype(np.float64)


def told(alarms: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Rows at which a board that finds these windows anomalous, (rows,), one a wake, sends an anomaly.

    By the firmware's own alarm: at its onset, and now and then while it lasts.
    """
    with tempfile.TemporaryDirectory(prefix="edgewise-evaluate-") as work:
        folder = _with_firmware(work)
        alarms.tofile(folder / "alarms")
        runtime.run(_ALARM, [], folder)
        return np.fromfile(folder / "told", dtype=np.bool_)


def _with_firmware(work: str) -> Path:
    """A folder in which MicroPython finds the firmware's modules."""
    firmware = Path(contract.__file__).resolve().parents[1]
    for name in ("contract", "device"):
        (Path(work) / name).symlink_to(firmware / name)
    return Path(work)
