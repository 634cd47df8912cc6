"""Windows of a series: scales, labels, and features equal to those computed by hand."""

from array import array

import numpy as np
import pytest

from contract.features import COUNT_LIMIT, Features
from model_export.errors import ModelError
from model_export.windows import compute, parse_schema, schema_for, to_counts
from tests.model_export.conftest import make_series


def test_a_made_schema_keeps_every_decimal_of_the_data_and_room_in_int16():
    series = make_series()
    text = schema_for(series, 8)
    assert text == "v1;w=8;c=c0::100,c1::100;f=mean,var,min,max,ld,zc"
    counts = to_counts(series, Features(text))
    assert np.array_equal(counts, np.rint(series.values * 100).astype(np.int32))


@pytest.mark.parametrize(("factor", "scale"), [(1e-3, "100000"), (1e4, "1/100"), (1e7, "1/100000")])
def test_large_and_small_values_get_a_scale_that_fits(factor, scale):
    series = make_series(channels=1)
    series = type(series)("x", series.sha256, series.channels, series.values * factor, None)
    text = schema_for(series, 4)
    assert text.partition("c=c0::")[2].partition(";")[0] == scale
    assert np.abs(to_counts(series, Features(text))).max() <= 16384


def test_what_comes_after_the_training_part_has_no_say_in_the_scale():
    series = make_series()
    later = series.values.copy()
    later[-1] = 1e9
    changed = type(series)("x", series.sha256, series.channels, later, None)
    assert schema_for(changed, 4, train_part=0.5) == schema_for(series, 4)
    assert schema_for(changed, 4) != schema_for(series, 4)


def test_channel_names_of_a_file_become_names_of_a_schema():
    series = make_series(channels=1)
    odd = type(series)("x", series.sha256, ("Water flow [l/s]",), series.values, None)
    assert Features(schema_for(odd, 4)).names[0] == "Water_flow__l_s.mean"


def test_a_window_ends_at_every_sample_once_the_first_is_full():
    series = make_series(rows=40, channels=1)
    windows = compute(series, parse_schema("v1;w=8;c=a::100;f=last,min,max"))
    assert windows.ends.tolist() == list(range(7, 40))
    counts = np.rint(series.values[:, 0] * 100).astype(int)
    for vector, end in zip(windows.features, windows.ends, strict=True):
        part = counts[end - 7 : end + 1]
        assert vector.tolist() == [part[-1], part.min(), part.max()]


@pytest.mark.parametrize("size", [1, 8])
def test_the_last_sample_alone_is_what_the_board_computes(size: int):
    series = make_series(rows=40)
    features = parse_schema(f"v1;w={size};c=a::100,b::1000000;f=last")
    windows = compute(series, features)
    counts = to_counts(series, features)
    assert abs(counts).max() == COUNT_LIMIT
    out = array("i", [0] * features.n_features)
    for vector, end in zip(windows.features, windows.ends, strict=True):
        features.compute_into(array("i", counts[end + 1 - size : end + 1].tobytes()), out)
        assert vector.tolist() == out.tolist()


def test_a_window_is_clean_only_when_no_sample_of_it_is_labelled():
    windows = compute(make_series(labels=True), parse_schema("v1;w=8;c=a::100,b::100;f=last"))
    assert windows.clean is not None
    assert windows.anomalous is not None
    at = {end: i for i, end in enumerate(windows.ends.tolist())}
    assert windows.anomalous[at[49]]
    assert not windows.anomalous[at[50]]
    assert [bool(windows.clean[at[end]]) for end in (48, 49, 56, 57)] == [True, False, False, True]


def test_what_does_not_fit_together_is_named():
    series = make_series(rows=40)
    with pytest.raises(ModelError, match="schema has 1 channels, the data 2"):
        compute(series, parse_schema("v1;w=8;c=a::100;f=last"))
    with pytest.raises(ModelError, match="40 rows are fewer than one window of 64"):
        compute(series, parse_schema("v1;w=64;c=a::100,b::100;f=last"))
    with pytest.raises(ModelError, match="'median' is not one of mean") as caught:
        parse_schema("v1;w=8;c=a::100;f=median")
    assert caught.value.code == "bad-schema"
