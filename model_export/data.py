"""Recorded series for training: the two that come with `river`, and any CSV file.

A series is checked where it enters, so that everything after it can rely on finite numbers with some variation.
"""

import csv
import gzip
import hashlib
import io
import math
import zlib
from array import array
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_export.errors import ModelError

MIN_ROWS = 32
_TRUE = ("1", "1.0", "true")
_FALSE = ("0", "0.0", "false", "")
_GAPS = ("", "na", "n/a", "null", "none")
# Share of rows that may be earlier than the row above: local time goes back once a year, an export begins with the
# newest row or has no order.
_MOST_BACKWARDS = 0.01


@dataclass(frozen=True, slots=True)
class Series:
    """Samples in order of time.

    values: float64 (rows, channels), finite, no column constant; labels: bool (rows,), True = anomalous, or None.
    """

    name: str
    sha256: str
    channels: tuple[str, ...]
    values: npt.NDArray[np.float64]
    labels: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Preset:
    """A series of the `river` package, the feature schema that suits it, and how to divide it.

    train_part, held_out_part: shares of the rows; water flow's fourth fault begins where its test part does.
    """

    file: str
    schema: str
    columns: tuple[str, ...]
    label: str | None
    train_part: float
    held_out_part: float


# Shuttle's rows come in random order, so a window would mix them: one sample is one window.
PRESETS = {
    "water-flow": Preset(
        "water-flow.csv",
        "v1;w=8;c=flow:l/s:100;f=mean,var,min,max,ld,zc",
        ("Water flow [l/s]",),
        None,
        train_part=0.4,
        held_out_part=0.27,
    ),
    "shuttle": Preset(
        "shuttle.csv.gz",
        "v1;w=1;c=" + ",".join(f"f{i}:raw:1" for i in range(1, 10)) + ";f=last",
        tuple(f"f{i}" for i in range(1, 10)),
        "anomaly",
        train_part=0.1,
        held_out_part=0.1,
    ),
}


def load(source: str, columns: Sequence[str] = (), label: str | None = None) -> Series:
    """The series `source` names: a key of PRESETS or a CSV file (.gz too). Raises ModelError(bad-data).

    `columns` selects channels, by default every numeric column but `label`, whose cells are 0/1 or true/false.
    """
    preset = PRESETS.get(source)
    if preset is None:
        path = Path(source)
        try:
            raw = path.read_bytes()
        except OSError as error:
            names = ", ".join(PRESETS)
            raise ModelError("bad-data", f"{source}: {error.strerror}. Give a CSV file or one of {names}") from None
        return parse(path.name, raw, columns, label)
    river = find_spec("river")  # found, not imported: importing it takes seconds
    if river is None or river.origin is None:
        raise ModelError("bad-data", f"{source} comes with the package river: run `pip install river`")
    raw = (Path(river.origin).parent / "datasets" / preset.file).read_bytes()
    return parse(preset.file, raw, columns or preset.columns, label or preset.label)


def parse(name: str, raw: bytes, columns: Sequence[str] = (), label: str | None = None) -> Series:
    """The series in the bytes of a CSV file; raises ModelError(bad-data) naming column and line at fault."""
    rows = _rows(name, raw)
    header = _header(name, rows)
    if label is not None and label not in header:
        raise ModelError("bad-data", f"{name} has no column {label!r}; it has {', '.join(header)}")
    kinds = _first_cells(rows, len(header))
    chosen = tuple(columns) or tuple(
        column for column, cell in zip(header, kinds, strict=True) if column != label and _is_number(cell)
    )
    for column in chosen:
        if column not in header:
            raise ModelError("bad-data", f"{name} has no column {column!r}; it has {', '.join(header)}")
        if chosen.count(column) > 1 or column == label:
            raise ModelError("bad-data", f"column {column!r} is given twice: name each column once")
    if not any(kinds):
        raise ModelError("bad-data", f"{name} has no values below its header: at least {MIN_ROWS} rows are needed")
    if not chosen:
        commas = any(_is_number(cell.replace(",", ".")) for cell in kinds)
        reason = "write numbers with a decimal point" if commas else "check its delimiter and header"
        raise ModelError("bad-data", f"{name} has no numeric column: {reason}")
    times = [i for i, cell in enumerate(kinds) if header[i] not in (*chosen, label) and _time(cell) is not None]
    read = _read(name, raw, header, chosen, label, times[0] if times else None)
    for column, values in zip(chosen, read.values.T, strict=True):
        if values.min() == values.max():
            raise ModelError("bad-data", f"column {column!r} is constant ({values[0]:g}): leave it out with --columns")
        if not columns and (values[1:] > values[:-1]).all():
            raise ModelError(
                "bad-data",
                f"column {column!r} rises at every row, as a clock or a row number does, which no model can learn "
                f"from: name the channels, such as --columns {','.join(c for c in chosen if c != column) or column}",
            )
    digest = hashlib.sha256(raw).hexdigest()
    return Series(Path(name).stem.removesuffix(".csv"), digest, chosen, read.values, read.labels)


def _rows(name: str, raw: bytes) -> Generator[tuple[int, list[str]]]:
    """(line, cells) of every row that is not blank, as text, one at a time: a file may have millions."""
    try:
        delimiter = max(",;\t", key=next((line for line in _text(raw) if line.strip()), "").count)
        reader = csv.reader(_text(raw), delimiter=delimiter)
        for row in reader:
            if row:
                yield reader.line_num, row
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise ModelError("bad-data", f"{name} is not a text file in UTF-8: {error}") from None
    except csv.Error as error:
        raise ModelError("bad-data", f"{name} is no table: {error}. Look for a quote that is not closed") from None


def _text(raw: bytes) -> io.TextIOWrapper:
    binary = io.BytesIO(raw)
    unpacked = gzip.GzipFile(fileobj=binary) if raw[:2] == b"\x1f\x8b" else binary
    return io.TextIOWrapper(unpacked, encoding="utf-8-sig")


def _header(name: str, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    header = [cell.strip() for cell in next(rows, (0, []))[1]]
    if not header:
        raise ModelError("bad-data", f"{name} is empty: it needs a header and at least {MIN_ROWS} rows")
    if any(_is_number(cell) for cell in header):
        raise ModelError("bad-data", f"{name} has no header: make its first line the names of the columns")
    if len(set(header)) != len(header):
        raise ModelError("bad-data", f"{name} names a column twice: rename one")
    return header


def _first_cells(rows: Iterator[tuple[int, list[str]]], width: int) -> list[str]:
    """Of each column the first cell that is no gap, or "": a sensor silent at the start is a sensor all the same."""
    found = [""] * width
    for _, row in rows:
        for at, cell in enumerate(row[:width]):
            if not found[at] and cell.strip().lower() not in _GAPS:
                found[at] = cell
        if all(found):
            break
    return found


@dataclass(frozen=True, slots=True)
class _Read:
    """values: float64 (rows, channels); labels: bool (rows,) or None."""

    values: npt.NDArray[np.float64]
    labels: npt.NDArray[np.bool_] | None


def _read(
    name: str, raw: bytes, header: list[str], chosen: tuple[str, ...], label: str | None, time_at: int | None
) -> _Read:
    """Every row, with nothing kept of it but its numbers; time_at: a column of times, which must not run backwards."""
    places = [header.index(column) for column in chosen]
    label_at = None if label is None else header.index(label)
    values = array("d")
    labels = bytearray()
    before = ""
    count = backwards = 0
    for line, row in islice(_rows(name, raw), 1, None):
        if len(row) != len(header):
            raise ModelError("bad-data", f"{name}, line {line}: {len(row)} cells under a header of {len(header)}")
        try:
            numbers = [float(row[at]) for at in places]
        except ValueError:
            numbers = []
        if not numbers or not math.isfinite(sum(numbers)):
            numbers = [_number(name, line, header[at], row[at]) for at in places]
        values.extend(numbers)
        if label_at is not None:
            labels.append(_label(name, line, row[label_at]))
        if time_at is not None:
            backwards += _is_earlier(row[time_at], before)
            before = row[time_at]
        count += 1
    if count < MIN_ROWS:
        raise ModelError("bad-data", f"{name} has {count} rows, too few: at least {MIN_ROWS} are needed")
    if time_at is not None and backwards > _MOST_BACKWARDS * count:
        raise ModelError(
            "bad-data",
            f"{name}: {backwards} of {count} rows are earlier than the row above by column {header[time_at]!r}: sort "
            "the rows, oldest first",
        )
    shaped = np.frombuffer(values, dtype=np.float64).reshape(count, len(chosen))
    return _Read(shaped, None if label is None else np.frombuffer(labels, dtype=np.bool_))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _time(cell: str) -> float | None:
    """Seconds of a time as in ISO 8601, which without a zone is taken for UTC; None for anything else."""
    try:
        time = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _is_earlier(cell: str, before: str) -> bool:
    """True when both are times and the first is the earlier one."""
    if cell >= before and len(cell) == len(before):
        return False  # nearly always, and times of one form are in order as texts are
    now, then = _time(cell), _time(before)
    return now is not None and then is not None and now < then


def _number(name: str, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        if cell.strip().lower() in _GAPS:
            reason = f"column {column!r} has a gap: fill it or leave the row out"
        elif _is_number(cell.replace(",", ".")):
            reason = f"{cell!r} in column {column!r} has a decimal comma: write it with a point"
        else:
            reason = f"{cell!r} in column {column!r} is not a number"
        raise ModelError("bad-data", f"{name}, line {line}: {reason}") from None
    if not math.isfinite(value):
        raise ModelError(
            "bad-data", f"{name}, line {line}: column {column!r} is {value}: fill the gaps or leave the rows out"
        )
    return value


def _label(name: str, line: int, cell: str) -> bool:
    known = cell.strip().lower()
    if known not in _TRUE and known not in _FALSE:
        raise ModelError("bad-data", f"{name}, line {line}: label {known!r} is neither 0/1 nor true/false")
    return known in _TRUE
