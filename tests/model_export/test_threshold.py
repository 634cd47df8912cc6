"""The threshold keeps the false-alarm rate asked for, and says how sure it is."""

import numpy as np
import pytest
from scipy.stats import binom

from model_export.threshold import choose, interval


@pytest.mark.parametrize("target", [0.001, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("count", [50, 999, 5000])
def test_no_more_than_the_target_share_is_above_and_one_more_would_be(target, count):
    scores = np.random.default_rng(count).gamma(2.0, size=count)
    chosen = choose(scores, target)
    above = int((scores > chosen.value).sum())
    assert above == int(target * count)
    assert chosen.false_alarms == above / count
    assert chosen.value == float(np.float32(chosen.value))


def test_no_window_lies_on_the_threshold():
    scores = np.array([1.0, 2.0, 3.0, 4.0] * 25)
    chosen = choose(scores, 0.25)
    assert chosen.value == 3.5
    assert chosen.margin > 0


def test_equal_scores_never_pass_the_target():
    scores = np.concatenate((np.zeros(90), np.full(10, 1.0 / 3.0)))
    chosen = choose(scores, 0.05)
    assert chosen.false_alarms == 0
    assert chosen.value >= 1.0 / 3.0


def test_negative_scores_are_as_good_as_any():
    scores = -np.arange(1.0, 101.0)
    assert (scores > choose(scores, 0.1).value).sum() == 10


def test_the_interval_is_the_one_of_clopper_and_pearson():
    low, high = interval(3, 300)
    assert binom.sf(2, 300, low) == pytest.approx(0.025)
    assert binom.cdf(3, 300, high) == pytest.approx(0.025)
    assert interval(0, 100)[0] == 0.0
    assert interval(100, 100)[1] == 1.0
