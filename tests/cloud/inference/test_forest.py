"""cloud/inference/forest.py: the scores of a table blob are scikit-learn's, and what is damaged scores nothing."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest, RandomForestClassifier

from cloud.inference.forest import Scorer
from contract.table import TableError
from model_export import detectors, table

WIDTH = 6


def trained(name: str, seed: int) -> tuple[Any, np.ndarray[Any, Any], float]:
    rng = np.random.default_rng(seed)
    seen = rng.integers(-3000, 3000, (400, WIDTH)).astype(np.int32)
    seen[:, 0] *= 20_000  # bounds of 32 bits
    if name == "isolation-forest":
        return (
            IsolationForest(n_estimators=150, max_samples=200, random_state=seed).fit(seen.astype(np.float32)),
            seen,
            0.5,
        )
    labels = (seen[:, 1] + seen[:, 2] > 500).astype(int)
    return RandomForestClassifier(60, random_state=seed).fit(seen.astype(np.float32), labels), seen, 0.5


@pytest.mark.parametrize("name", ["isolation-forest", "random-forest"])
def test_a_forest_scores_as_scikit_learn_does(name: str):
    estimator, seen, threshold = trained(name, 5)
    detector = detectors.DETECTORS[name]
    blob = table.forest(detector.ensemble(estimator, [], threshold), threshold)  # type: ignore[attr-defined]
    scorer = Scorer(blob)
    expected = detector.scores(estimator, seen.astype(np.float64))
    found = [scorer.score(row) for row in seen.tolist()]
    assert np.abs(np.array([score for score, _ in found]) - expected).max() < 1e-6
    assert [anomalous for _, anomalous in found] == (expected > threshold).tolist()


def test_a_damaged_forest_is_refused():
    estimator, _, threshold = trained("random-forest", 6)
    detector = detectors.DETECTORS["random-forest"]
    blob = table.forest(detector.ensemble(estimator, [], threshold), threshold)  # type: ignore[attr-defined]
    for at in range(0, len(blob), 997):
        with pytest.raises(TableError):
            Scorer(blob[:at] + bytes([blob[at] ^ 4]) + blob[at + 1 :])
