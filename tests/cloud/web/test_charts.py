"""Charts: the line keeps its shape, the axes round numbers, the words are escaped."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.web.charts import Mark, line_chart, share_bar, sparkline, thinned, ticks


def test_thinning_keeps_ends_and_extremes() -> None:
    points = [(float(at), 0.0) for at in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    points[67_890] = (67_890.0, -9.0)
    kept = thinned(points, 800)
    assert len(kept) <= 4 * 800
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {(54_321.0, 9.0), (67_890.0, -9.0)} <= set(kept)
    assert kept == sorted(kept)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 10))
def test_ticks_are_few_and_inside(low: float, length: float, about: int) -> None:
    high = low + length
    if high == low:
        return
    found = ticks(low, high, about)
    assert len(found) <= 2 * about + 2
    slack = length * 1e-6 + abs(high) * 1e-9
    assert all(low - slack <= tick <= high + slack for tick in found)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_make_no_line(values: list[float]) -> None:
    assert sparkline(values, "x") == ""
    assert "No readings" in line_chart([(0.0, value) for value in values], "mV", "x", 0)


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-12, 1e12])
def test_a_constant_series_is_a_flat_line_within_the_picture(value: float) -> None:
    svg = line_chart([(float(at), value) for at in range(5)], "mV", "flat", 0)
    heights = set(re.findall(r",(-?[\d.]+)", re.findall(r'class="line s1" d="([^"]*)"', svg)[0]))
    assert len(heights) == 1
    assert 0 < float(heights.pop()) < 190


def test_marks_outside_the_time_shown_are_left_out_and_labels_are_escaped() -> None:
    points = [(0.0, 1.0), (10.0, 2.0)]
    svg = line_chart(points, "<b>", 'pump "1"', 0, [Mark(5, "<script>"), Mark(-1, "before"), Mark(11, "after")])
    assert svg.count('class="mark"') == 1
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert "pump &#34;1&#34;" in svg


def test_shares_fill_the_bar() -> None:
    widths = [float(width) for width in re.findall(r'width="([\d.]+)%"', share_bar([("1.0.0", 1), ("2.0.0", 2)]))]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    assert "no boards" in share_bar([])


@pytest.mark.parametrize("end_ms", [2**48 + 1_900_000_000_000, -(2**48)])
def test_a_time_beyond_the_calendar_leaves_a_chart(end_ms: int) -> None:
    """A board whose clock jumped: of 2^48 ms are 8,900 years."""
    begin, end = sorted((1_900_000_000_000, end_ms))
    assert f"{end_ms} ms" in line_chart([(begin, 1.0), (end, 2.0)], "mm/s", "vibration", 0)
