"""cloud/inference/gaussian.py: the scores of a table blob are scikit-learn's, and what is damaged scores nothing."""

import numpy as np
import pytest

from cloud.inference.gaussian import Scorer
from contract.table import TableError
from model_export import detectors
from model_export.detectors import scaling
from model_export.detectors.numbers import INT16
from tests.support.artifacts import gaussian_of

THRESHOLD = 12.5


@pytest.mark.parametrize("name", ["gaussian", "elliptic-envelope"])
def test_a_gaussian_scores_as_scikit_learn_does(name: str):
    rng = np.random.default_rng(5)
    seen = np.rint(rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) * 90).astype(np.int32)
    detector = detectors.DETECTORS[name]
    estimator = detector.fit(seen.astype(np.float64), None, 0, {})
    scalers, core = scaling.split(estimator)
    detector.settle(core, INT16, scalers)
    scorer = Scorer(detector.table(core, scalers, THRESHOLD, [0] * 5))  # type: ignore[attr-defined]
    expected = detector.scores(core, scaling.transform(scalers, seen))
    found = [scorer.score(row) for row in seen.tolist()]
    assert np.abs(np.array([score for score, _ in found]) - expected).max() < 1e-9
    assert [anomalous for _, anomalous in found] == (expected > THRESHOLD).tolist()
    assert 0 < sum(anomalous for _, anomalous in found) < 100


def test_a_damaged_gaussian_is_refused():
    sound = gaussian_of(9.5)
    assert Scorer(sound).score([3072, 1024]) == (10.0, True)
    for at in range(len(sound)):
        with pytest.raises(TableError):
            Scorer(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
