"""Decoding side by side gives what contract/delta.py gives, or declines."""

import random
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.ingest.lanes import decode_bodies
from cloud.ingest.readings import MIN_LANES, key_form, key_forms
from contract import delta, wire
from contract.delta_encoder import Encoder
from contract.wire import WireError
from tests.support.messages import ramp, readings

Step = Callable[[random.Random, int], int]

SERIES: dict[str, Step] = {
    "still": lambda _rng, last: last,
    "ramp": lambda _rng, last: last + 3,
    "walk": lambda rng, last: last + round(rng.gauss(0, 4)),
    "noise": lambda rng, _last: round(rng.gauss(500, 100)),
    "steps": lambda rng, last: last + 100 * rng.randint(-3, 3),
    "jumps": lambda rng, last: last + (rng.randint(-5, 5) if rng.random() > 0.1 else rng.randint(-(10**6), 10**6)),
    "sparse": lambda rng, last: last + (rng.random() < 0.05),
    "flat": lambda rng, _last: rng.randint(0, 255),
    "wild": lambda rng, _last: rng.randint(-(2**31), 2**31 - 1),
}


def batch(rng: random.Random, series: str, lanes: int, rows: int, cols: int) -> list[tuple[bytes, bytes]]:
    """(first, body) of random frames in key form."""
    encoder, out = Encoder(), bytearray(16_384)
    made: list[tuple[bytes, bytes]] = []
    for _ in range(lanes):
        last = [rng.randint(-1000, 20_000) for _ in range(cols)]
        values = array("i")
        for _ in range(rows):
            last = [SERIES[series](rng, value) for value in last]
            values.extend(last)
        times = array("q", [0])
        for _ in range(rows - 1):
            times.append(times[-1] + (1000 if series != "jumps" else rng.randint(900, 1100)))
        first = bytes(out[: delta.first_row(values, None, cols, out)])
        made.append((first, bytes(out[: encoder.body(times, values, rows, cols, out)])))
    return made


def one_by_one(first: bytes, body: bytes, rows: int, cols: int) -> tuple[list[int], list[int]] | None:
    try:
        offsets, values = delta.decode(rows, cols, first, body)
    except WireError:
        return None
    return list(offsets), list(values)


def compare(frames: list[tuple[bytes, bytes]], rows: int, cols: int) -> int:
    """Asserts that every good lane is right; returns how many there are."""
    first_rows = np.array([list(delta.decode_first(first, None, cols)) for first, _ in frames], dtype=np.int64)
    found = decode_bodies([body for _, body in frames], first_rows, rows)
    for lane in np.flatnonzero(found.good):
        first, body = frames[lane]
        wanted = one_by_one(first, body, rows, cols)
        assert wanted == (found.offsets[lane].tolist(), found.values[lane].ravel().tolist())
    return int(found.good.sum())


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (30, 1), (30, 8), (wire.MAX_ROWS, 2)])
@pytest.mark.parametrize("series", SERIES)
def test_good_lanes_are_what_one_by_one_gives(series: str, shape: tuple[int, int]):
    frames = batch(random.Random(series), series, 40, *shape)
    good = compare(frames, *shape)
    if series in ("still", "ramp", "walk", "noise", "steps", "flat"):
        assert good == len(frames), "what is common is decoded"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_frame_is_declined_or_decoded_as_one_by_one(data: st.DataObject):
    rng = random.Random(data.draw(st.integers(0, 1000)))
    series = data.draw(st.sampled_from(sorted(SERIES)))
    rows, cols = data.draw(st.sampled_from([(2, 1), (12, 2), (30, 3)]))
    frames = batch(rng, series, 6, rows, cols)
    damaged: list[tuple[bytes, bytes]] = []
    for first, body in frames:
        bad = bytearray(body)
        for _ in range(data.draw(st.integers(0, 3))):
            if bad:
                bad[rng.randrange(len(bad))] = rng.randrange(256)
        damaged.append((first, bytes(bad[: rng.randrange(len(bad) + 1)] if rng.random() < 0.2 else bad)))
    compare(damaged, rows, cols)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.integers(1, 40), st.integers(1, 4))
def test_any_bytes_are_declined_or_decoded_as_one_by_one(bodies: list[bytes], rows: int, cols: int):
    compare([(bytes(cols), body) for body in bodies], rows, cols)


def test_frames_of_a_batch_are_the_same_together_as_alone():
    base = (7, -3)
    records = [readings(0, ramp(10, start=start)) for start in range(MIN_LANES)]
    records += [readings(0, ramp(10, start=start), base=((1, 5), base)) for start in range(MIN_LANES)]
    bases = [None] * MIN_LANES + [base] * MIN_LANES
    together = key_forms(list(zip(records, bases, strict=True)))
    assert [together[id(record)] for record in records] == [
        key_form(record, of) for record, of in zip(records, bases, strict=True)
    ]


def test_a_bad_frame_is_left_for_the_one_that_says_why():
    records = [readings(0, ramp(10, start=start)) for start in range(MIN_LANES)]
    cut = readings(0, [[value * value, 3] for value in range(10)])
    bad = type(cut)(1, 0, 0, 10, 2, None, cut.first, cut.body[:-1])
    no_first = type(cut)(1, 0, 0, 10, 2, None, b"\xff", cut.body)
    together = key_forms([(record, None) for record in (*records, bad, no_first)])
    assert len(together) == MIN_LANES
    assert id(bad) not in together
