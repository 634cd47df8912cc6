"""What a CSV file may hold, and what is said when it holds something else."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_export import data
from model_export.errors import ModelError

ROWS = 40


def csv(*columns: Sequence[object], header: str, delimiter: str = ",") -> bytes:
    lines = [delimiter.join(str(cell) for cell in row) for row in zip(*columns, strict=True)]
    return "\n".join([header.replace(",", delimiter), *lines]).encode()


def numbers(n: int = ROWS) -> list[object]:
    return [float(i % 7) for i in range(n)]


def refusal(raw: bytes, **choice: Any) -> str:
    with pytest.raises(ModelError) as caught:
        data.parse("pump.csv", raw, **choice)
    assert caught.value.code == "bad-data"
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_numeric_columns_are_the_channels_and_a_time_column_is_passed_over(delimiter):
    raw = csv([f"2024-01-01 00:{i:02d}" for i in range(ROWS)], numbers(), header="time,flow", delimiter=delimiter)
    series = data.parse("pump.csv", raw)
    assert series.channels == ("flow",)
    assert series.values.shape == (ROWS, 1)
    assert series.values[8, 0] == 1.0
    assert series.labels is None


def test_columns_are_taken_in_the_order_asked_for():
    raw = csv(numbers(), [10.0 + i for i in range(ROWS)], header="a,b")
    assert data.parse("x.csv", raw, columns=("b", "a")).values[3].tolist() == [13.0, 3.0]


def test_a_label_column_becomes_labels_and_no_channel():
    raw = csv(numbers(), ["0.0", "1.0", "true", "False"] * (ROWS // 4), header="a,bad")
    series = data.parse("x.csv", raw, label="bad")
    assert series.channels == ("a",)
    assert series.labels is not None
    assert series.labels[:4].tolist() == [False, True, True, False]


def test_a_compressed_file_is_read_and_hashed_as_it_is(tmp_path: Path):
    path = tmp_path / "pump.csv.gz"
    path.write_bytes(gzip.compress(csv(numbers(), header="a"), mtime=0))
    assert data.load(str(path)).name == "pump"


@pytest.mark.parametrize(("name", "rows", "channels"), [("water-flow", 1268, 1), ("shuttle", 49097, 9)])
def test_the_series_of_river_are_there(name, rows, channels):
    series = data.load(name)
    assert series.values.shape == (rows, channels)
    assert (series.labels is not None) == (name == "shuttle")


def test_a_file_that_is_not_there_names_the_known_series(tmp_path: Path):
    with pytest.raises(ModelError, match=r"No such file.*water-flow, shuttle"):
        data.load(str(tmp_path / "none.csv"))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN"])
def test_a_value_that_is_not_finite_is_named_with_its_line(value):
    cells = numbers()
    cells[5] = value
    assert "line 7: column 'a' is" in refusal(csv(cells, header="a"))


def test_hazards_are_refused_with_cause_and_next_step():
    assert "is empty" in refusal(b"")
    assert "too few" in refusal(csv(numbers(5), header="a"))
    assert "has no header" in refusal(csv(numbers(), header="1.5"))
    assert "constant (3)" in refusal(csv([3] * ROWS, header="a"))
    assert "names a column twice" in refusal(csv(numbers(), numbers(), header="a,a"))
    assert "not a text file" in refusal(b"\xff\xfe\x00\x01")
    assert "not a text file" in refusal(b"\x1f\x8bgarbage")
    packed = gzip.compress(csv(numbers(), header="a"), mtime=0)
    assert "not a text file" in refusal(packed[:10] + b"\xff" * 20 + packed[30:])
    assert "quote that is not closed" in refusal(b'a,b\n"' + b"1,2\n" * 40_000)
    assert "no values below its header" in refusal(b"a,b\n")
    assert "has no numeric column" in refusal(csv(["x"] * ROWS, header="a"))
    assert "has no column 'b'; it has a" in refusal(csv(numbers(), header="a"), columns=("b",))
    assert "has no column 'bad'" in refusal(csv(numbers(), header="a"), label="bad")
    assert "given twice" in refusal(csv(numbers(), header="a"), columns=("a", "a"))
    assert "neither 0/1" in refusal(csv(numbers(), [7] * ROWS, header="a,bad"), label="bad")


def test_text_in_a_numeric_column_is_named_with_its_line():
    cells = numbers()
    cells[3] = "off"
    assert "line 5: 'off' in column 'a' is not a number" in refusal(csv(cells, header="a"))


def test_a_line_is_counted_as_an_editor_counts_it():
    assert "line 45: 'off'" in refusal(b"a\n\n\n" + csv([*numbers(), "off"], header="1").replace(b"1\n", b"\n", 1))


@pytest.mark.parametrize("cell", ["", " ", "NA", "null"])
def test_a_sensor_that_is_silent_at_first_is_not_left_out_without_a_word(cell):
    raw = csv([cell, *numbers()], numbers(ROWS + 1), header="a,b")
    assert "line 2: column 'a' has a gap" in refusal(raw)
    assert data.parse("x.csv", raw, columns=("b",)).channels == ("b",)


def test_decimal_commas_are_named():
    commas = [f"{i},5" for i in range(ROWS)]
    assert "decimal point" in refusal(csv(commas, header="a").replace(b"a\n", b"t;a\n").replace(b"\n", b"\n;")[:-1])
    assert "line 3: '1,5' in column 'a' has a decimal comma" in refusal(
        b"t;a\n" + b"x;1\n" + b"x;1,5\n" * ROWS, columns=("a",)
    )


def test_a_clock_or_row_number_is_no_channel():
    seconds = [1_700_000_000 + 10 * i for i in range(ROWS)]
    raw = csv(seconds, numbers(), header=",flow")
    assert "rises at every row" in refusal(raw)
    assert "--columns flow" in refusal(raw)
    assert data.parse("x.csv", raw, columns=("flow",)).channels == ("flow",)
    assert data.parse("x.csv", raw, columns=("",)).values[0, 0] == seconds[0]


def test_rows_that_are_not_in_order_of_time_are_refused():
    times = [f"2024-10-27T0{i // 20}:{i % 20:02d}:00" for i in range(ROWS)]
    assert "40 of 41 rows are earlier" in refusal(csv([*times[::-1], "2024-01-01"], numbers(41), header="t,a"))
    assert data.parse("x.csv", csv(times, numbers(), header="t,a")).channels == ("a",)
    assert data.parse("x.csv", csv([times[0]] * ROWS, numbers(), header="t,a")).channels == ("a",)


def test_local_time_that_goes_back_once_is_in_order():
    times = [f"2024-10-27 {2 + i % 120 // 60 - i // 120:02d}:{i % 60:02d}:00" for i in range(180)]
    assert data.parse("x.csv", csv(times, numbers(180), header="t,a")).channels == ("a",)


@pytest.mark.parametrize("end", [b"\r", b"\r\n"])
def test_lines_may_end_as_on_any_system(end):
    assert data.parse("x.csv", csv(numbers(), header="a").replace(b"\n", end)).values.shape == (ROWS, 1)


def test_a_short_row_is_named_with_its_line():
    raw = csv(numbers(), numbers(), header="a,b").replace(b"\n2.0,2.0\n", b"\n2.0\n", 1)
    assert "line 4: 1 cells under a header of 2" in refusal(raw)


def test_values_are_float64_and_finite():
    series = data.parse("x.csv", csv(numbers(), header="a"))
    assert series.values.dtype == np.float64
