"""Ranges of sequence numbers, held against plain sets of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.ingest.sequence import Fit, Ranges, carve, first_gap, fit

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12)


def disjoint(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of [start, start + length), those that overlap none before."""
    kept: list[tuple[int, int]] = []
    for start, length in spans:
        if all(start + length <= low or start >= high for low, high in kept):
            kept.append((start, start + length))
    return kept


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for low, high in ranges for number in range(low, high)}


@given(SPANS, st.integers(0, 70), st.integers(1, 20))
def test_gaps_are_the_numbers_in_no_range(spans, start, length):
    kept = disjoint(spans)
    ranges = Ranges()
    for low, high in kept:
        ranges.add(low, high)
    assert numbers(ranges.gaps(start, start + length)) == set(range(start, start + length)) - numbers(kept)


@given(SPANS, st.integers(0, 70), st.integers(1, 20))
def test_touching_finds_exactly_the_ranges_that_share_a_number(spans, start, length):
    kept = disjoint(spans)
    wanted = [held for held in sorted(kept) if numbers([held]) & set(range(start, start + length))]
    assert Ranges(kept).touching(start, start + length) == wanted


@given(SPANS, SPANS, st.integers(0, 70))
def test_first_gap_is_the_lowest_number_in_no_set(one, other, start):
    taken = numbers(disjoint(one)) | numbers(disjoint(other))
    wanted = next(number for number in range(start, 200) if number not in taken)
    assert first_gap(start, Ranges(disjoint(one)), Ranges(disjoint(other))) == wanted


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 40), st.integers(1, 20))
def test_carve_leaves_what_was_not_taken(low, length, start, taken):
    rest = carve((low, low + length), start, start + taken)
    assert numbers(rest) == set(range(low, low + length)) - set(range(start, start + taken))


def test_a_record_fits_as_new_duplicate_or_overlap():
    stored = Ranges([(0, 10), (20, 30)])
    assert fit(stored, 10, 20) is Fit.NEW
    assert fit(stored, 20, 30) is Fit.DUPLICATE
    for start, end in ((5, 15), (0, 20), (20, 29), (21, 22), (0, 30)):
        assert fit(stored, start, end) is Fit.OVERLAP
