"""Recorded series for training: the two that come with `river`, and any CSV file.

A series is checked where it enters, so that everything after it can rely on finite numbers with some variation.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_export.errors import ModelError

MIN_ROWS = 32
_TRUE = ("1", "1.0", "true")
_FALSE = ("0", "0.0", "false", "")


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
    digest = hashlib.sha256(raw).hexdigest()
    header, rows = _cells(name, raw)
    if label is not None and label not in header:
        raise ModelError("bad-data", f"{name} has no column {label!r}; it has {', '.join(header)}")
    chosen = tuple(columns) or _numeric_columns(header, rows, label)
    for column in chosen:
        if column not in header:
            raise ModelError("bad-data", f"{name} has no column {column!r}; it has {', '.join(header)}")
        if chosen.count(column) > 1 or column == label:
            raise ModelError("bad-data", f"column {column!r} is given twice: name each column once")
    if not chosen:
        raise ModelError("bad-data", f"{name} has no numeric column: check its delimiter and header")
    values = np.column_stack([_numbers(name, column, header.index(column), rows) for column in chosen])
    labels = None if label is None else _labels(name, header.index(label), rows)
    return Series(Path(name).stem.removesuffix(".csv"), digest, chosen, values, labels)


def _cells(name: str, raw: bytes) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text."""
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ModelError("bad-data", f"{name} is not a text file in UTF-8: {error}") from None
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    if not rows:
        raise ModelError("bad-data", f"{name} is empty: it needs a header and at least {MIN_ROWS} rows")
    header = [cell.strip() for cell in rows.pop(0)]
    if any(_is_number(cell) for cell in header):
        raise ModelError("bad-data", f"{name} has no header: make its first line the names of the columns")
    if len(set(header)) != len(header):
        raise ModelError("bad-data", f"{name} names a column twice: rename one")
    if len(rows) < MIN_ROWS:
        raise ModelError("bad-data", f"{name} has {len(rows)} rows, too few: at least {MIN_ROWS} are needed")
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ModelError("bad-data", f"{name}, line {line}: {len(row)} cells under a header of {len(header)}")
    return header, rows


def _numeric_columns(header: list[str], rows: list[list[str]], label: str | None) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(header) if name != label and _is_number(rows[0][i]))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(name: str, column: str, at: int, rows: list[list[str]]) -> npt.NDArray[np.float64]:
    values = np.empty(len(rows))
    for i, row in enumerate(rows):
        try:
            values[i] = float(row[at])
        except ValueError:
            raise ModelError(
                "bad-data", f"{name}, line {i + 2}: {row[at]!r} in column {column!r} is not a number"
            ) from None
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ModelError(
            "bad-data",
            f"{name}, line {bad[0] + 2}: column {column!r} is {values[bad[0]]} ({bad.size} such cells): "
            "fill the gaps or leave the rows out",
        )
    if values.min() == values.max():
        raise ModelError("bad-data", f"column {column!r} is constant ({values[0]:g}): leave it out with --columns")
    return values


def _labels(name: str, at: int, rows: list[list[str]]) -> npt.NDArray[np.bool_]:
    cells = [row[at].strip().lower() for row in rows]
    for line, cell in enumerate(cells, 2):
        if cell not in _TRUE and cell not in _FALSE:
            raise ModelError("bad-data", f"{name}, line {line}: label {cell!r} is neither 0/1 nor true/false")
    return np.array([cell in _TRUE for cell in cells])
