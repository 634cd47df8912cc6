"""The threshold keeps the false-alarm rate asked for, and says how sure it is."""

import numpy as np
import pytest
from scipy.stats import binom

from model_export.errors import ModelError
from model_export.threshold import beyond_training, choose, extreme_value, interval


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


@pytest.mark.parametrize("target", [1e-2, 1e-3, 1e-4])
def test_extreme_values_give_the_quantile_of_a_tail_beyond_what_was_seen(target):
    scores = np.random.default_rng(7).exponential(size=5000)
    assert extreme_value(scores, target).value == pytest.approx(-np.log(target), rel=0.25)


def test_extreme_values_need_a_tail_and_say_so():
    with pytest.raises(ModelError, match="hold out more"):
        extreme_value(np.arange(15.0), 0.001)
    with pytest.raises(ModelError, match="leave no tail"):
        extreme_value(np.arange(1000.0), 0.05)


def test_a_tail_too_heavy_for_the_rate_is_said_to_be():
    scores = np.random.default_rng(0).standard_cauchy(5000)
    with pytest.raises(ModelError, match="so heavy"):
        extreme_value(scores, 1e-300)


def test_equal_scores_in_the_tail_are_not_exceeded():
    assert extreme_value(np.concatenate((np.arange(50.0), np.full(150, 60.0))), 0.001).value >= 60


def test_beyond_training_is_the_maximum_the_spread_and_the_floor():
    scores = np.arange(101.0)
    assert beyond_training(scores, 2.0).value == 100 + 2 * 50
    assert beyond_training(scores, 2.0, floor=500.0).value == 500.0
    assert beyond_training(scores, 2.0).false_alarms == 0
