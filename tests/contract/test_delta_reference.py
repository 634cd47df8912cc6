"""contract/delta.py against a decoder written from PROTOCOL.md alone (reference_delta.py), and its size."""

import json
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import delta, delta_encoder, wire
from tests.contract import reference_delta

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "delta.json").read_text("utf-8"))


def by_reference(vector: dict[str, Any]) -> reference_delta.Bits:
    """The bits of a batch of the vectors, once the reference has decoded it to its rows."""
    bits = reference_delta.Bits(bytes.fromhex(vector["body"]))
    rows = vector["rows"]
    offsets, found = reference_delta.decode(len(rows), len(rows[0]), bytes.fromhex(vector["first"]), bits)
    assert found == rows
    assert [vector["times"][0] + offset for offset in offsets] == vector["times"]
    return bits


@pytest.mark.parametrize("vector", VECTORS["batches"], ids=lambda vector: vector["name"])
def test_the_reference_decodes_the_vectors(vector: dict[str, Any]) -> None:
    by_reference(vector)


def test_the_vectors_meet_every_predictor_and_every_form_of_residuals() -> None:
    met = set[int]().union(*(by_reference(vector).met for vector in VECTORS["batches"]))
    assert met == {0, 1, 2, 3, 4, 5, 6, 7, 14, 15}


int32 = st.integers(-(2**31), 2**31 - 1)
channels = st.integers(1, 4)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """(times, rows): walks with jumps, constants, and values anywhere."""
    rows, cols = draw(st.integers(1, 40)), draw(channels)
    gaps = draw(st.lists(st.sampled_from([0, 1000, 1001, 2**32 - 1]), min_size=rows - 1, max_size=rows - 1))
    times = [draw(st.integers(0, 2**40))]
    for gap in gaps:
        times.append(times[-1] + gap)
    columns: list[list[int]] = []
    for _ in range(cols):
        step = draw(st.sampled_from([0, 1, 2, 50, 2**20]))
        column = [draw(int32)]
        for _ in range(rows - 1):
            jump = draw(st.integers(-step, step)) if draw(st.integers(0, 9)) else draw(int32) - column[-1]
            column.append(min(2**31 - 1, max(-(2**31), column[-1] + jump)))
        columns.append(column)
    return times, [list(row) for row in zip(*columns, strict=True)]


@given(batches())
def test_the_reference_decodes_what_the_encoder_makes(batch: tuple[list[int], list[list[int]]]) -> None:
    times, rows = batch
    cols = len(rows[0])
    out = bytearray(wire.MAX_UP_BYTES)
    values = array("i", [value for row in rows for value in row])
    body = bytes(out[: delta_encoder.Encoder().body(times, values, len(rows), cols, out)])
    first = bytes(out[: delta.first_row(values, None, cols, out)])
    offsets, found = reference_delta.decode(len(rows), cols, first, reference_delta.Bits(body))
    assert found == rows
    assert [times[0] + offset for offset in offsets] == times
    assert delta.decode(len(rows), cols, first, body)[1] == values


@given(batches(), st.data())
def test_the_base_changes_the_first_row_only(batch: tuple[list[int], list[list[int]]], data: st.DataObject) -> None:
    _, rows = batch
    cols = len(rows[0])
    base = data.draw(st.lists(int32, min_size=cols, max_size=cols))
    out = bytearray(100)
    based = bytes(out[: delta.first_row(rows[0], base, cols, out)])
    assert list(delta.decode_first(based, base, cols)) == rows[0]
