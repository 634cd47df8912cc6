"""A board as small as a chip: what it measures, and compiled detectors that its 32-bit port can load."""

from collections.abc import Iterable

import numpy as np

from model_export import package
from model_export.data import Series
from model_export.keys import PublisherKey
from model_export.package import Release
from model_export.train import Plan, train
from tests.support import boards
from tools import frozen_port

ROWS = 5000
ANOMALY = range(1600, 1760)


def recording() -> list[list[int]]:
    """Rows (flow, count) of noise; flow is ten times as high during ANOMALY."""
    rng = np.random.default_rng(7)
    rows = np.stack((rng.normal(1000, 20, ROWS), rng.normal(50, 10, ROWS)), axis=1).astype(int)
    rows[ANOMALY.start : ANOMALY.stop, 0] *= 10
    return rows.tolist()


def artifacts(publisher: PublisherKey, versions: Iterable[str]) -> dict[str, bytes]:
    """Releases of one detector, trained on the recording without its anomaly as users train theirs, by version."""
    values = np.delete(np.array(recording()), ANOMALY, axis=0) / (100, 1)
    model = train(Series("made", "0" * 64, ("flow", "count"), values, None), Plan("pump", boards.SCHEMA))
    releases = (Release(version, number, 1_700_000_000) for number, version in enumerate(versions, start=1))
    arch = frozen_port.CHIP.arch
    return {release.version: package.export_native(model, arch, release, publisher).artifact for release in releases}
