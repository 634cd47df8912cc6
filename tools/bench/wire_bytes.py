"""Bytes per reading on the wire, against JSON, msgpack and the entropy of the first differences.

A reading is one row of all channels of a series, in batches of 30 and of 100 rows. "payload" is the whole READINGS
message, times included, in the shorter of its two forms. "coded" is the batch alone without its times, as the entropy
has none: the first row as differences to the row before, and the body. The entropy is the order-0 entropy of the first
differences of each channel over the whole series.
"""

import json
import math
import os
import subprocess
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack
import numpy as np
import numpy.typing as npt

from contract import delta, delta_encoder, frames, wire
from model_export import data
from tools.bench import Row
from tools.firmware import ROOT, program

EQUAL_TIMES_BITS = 9  # of a column of times that are all the same
BATCHES = 80  # per series and size, evenly spread
AIMS = {30: 1.15, 100: 1.10}
JSON_AIM = 12
ON_BOARD = Path(__file__).with_name("_encode_on_board.py")


@dataclass(frozen=True)
class Source:
    """values: int32 (rows, channels), in units of 1 / scale; interval_ms: between two rows."""

    name: str
    channels: tuple[str, ...]
    values: npt.NDArray[np.int64]
    scale: tuple[float, ...]
    interval_ms: int


@dataclass
class Sizes:
    """Bytes per reading of one source in batches of one size."""

    payload: float = 0.0
    coded: float = 0.0
    json: float = 0.0
    float32: float = 0.0
    float64: float = 0.0
    deltas: float = 0.0


def run() -> list[Row]:
    rows: list[Row] = []
    for source in sources():
        entropy = entropy_bytes(source.values)
        for size, aim in AIMS.items():
            found = measure(source, size)
            name = f"{source.name}, {size} rows"
            rows += [
                Row(f"{name}: coded", found.coded, "B", "entropy", entropy, f"<= {aim} x"),
                Row(
                    f"{name}: payload", found.payload, "B", "JSON", found.json, f"<= 1/{JSON_AIM} = {1 / JSON_AIM:.3f}"
                ),
                Row("", found.payload, "B", "msgpack, float 64", found.float64),
                Row("", found.payload, "B", "msgpack, float 32", found.float32),
                Row("", found.payload, "B", "msgpack, integer differences", found.deltas),
            ]
    return rows + on_board()


def sources() -> Iterator[Source]:
    """Real series (those of EDGEWISE_DATA when it is set), then synthetic ones of 8 channels."""
    yield _of("water-flow", data.load("water-flow"), (100.0,), 3_600_000)
    yield _of("shuttle", data.load("shuttle"), (1.0,) * 9, 1000)
    folder = os.environ.get("EDGEWISE_DATA")
    if folder:
        machine = Path(folder) / "nab" / "realKnownCause" / "machine_temperature_system_failure.csv"
        yield _of("machine temperature", data.load(str(machine), ("value",)), (100.0,), 300_000)
        valve = [Path(folder) / "skab" / "valve1" / f"{number}.csv" for number in range(16)]
        names = ("Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure", "Temperature", "Thermocouple")
        names += ("Voltage", "Volume Flow RateRMS")
        scale = (1e4, 1e4, 1e3, 1e3, 1e2, 1e2, 1e2, 10.0)
        recordings = [_of("water circulation", data.load(str(path), names), scale, 1000) for path in valve]
        yield replace(recordings[0], values=np.vstack([recording.values for recording in recordings]))
    for name, noise in (("synthetic smooth", 6.0), ("synthetic noisy", 40.0)):
        yield Source(name, tuple(f"ch{i}" for i in range(8)), synthetic(noise), (100.0,) * 8, 60_000)


def synthetic(noise: float) -> npt.NDArray[np.int64]:
    """int (9000, 8): slow waves of amplitude 1000 with white noise of this standard deviation."""
    random = np.random.default_rng(1)
    rows = np.arange(9000)
    waves = [1000 * np.sin(2 * np.pi * rows / (300 + 40 * i)) + random.normal(0, noise, 9000) for i in range(8)]
    return np.rint(np.array(waves).T).astype(np.int64)


def _of(name: str, series: data.Series, scale: tuple[float, ...], interval_ms: int) -> Source:
    values = np.rint(series.values * np.array(scale)).astype(np.int64)
    return Source(name, series.channels, values, scale, interval_ms)


def entropy_bytes(values: npt.NDArray[np.int64]) -> float:
    """Order-0 entropy of the first differences, summed over channels, in bytes per row."""
    bits = 0.0
    for channel in range(values.shape[1]):
        counts = Counter(np.diff(values[:, channel]).tolist())
        total = sum(counts.values())
        bits -= sum(count / total * math.log2(count / total) for count in counts.values())
    return bits / 8


def measure(source: Source, size: int) -> Sizes:
    """Mean bytes per reading over evenly spread batches of `size` rows."""
    sizes = Sizes()
    starts = np.linspace(1, len(source.values) - size, min(BATCHES, len(source.values) // size)).astype(int)
    for start in starts.tolist():
        block = source.values[start - 1 : start + size]
        _add(sizes, source, start * source.interval_ms, block[1:], block[0])
    readings = len(starts) * size
    return Sizes(*(total / readings for total in vars(sizes).values()))


def _add(sizes: Sizes, source: Source, t_ms: int, block: npt.NDArray[np.int64], before: npt.NDArray[np.int64]) -> None:
    rows, cols = block.shape
    times = [t_ms + row * source.interval_ms for row in range(rows)]
    values, base = array("i", block.ravel().tolist()), array("i", before.tolist())
    encoder, out = delta_encoder.Encoder(), bytearray(wire.MAX_UP_BYTES)
    timeless = encoder.body([0] * rows, values, rows, cols, out) - EQUAL_TIMES_BITS / 8
    body = bytes(out[: encoder.body(times, values, rows, cols, out)])
    key = bytes(out[: delta.first_row(values, None, cols, out)])
    based = bytes(out[: delta.first_row(values, base, cols, out)])
    seq = t_ms // source.interval_ms
    forms = [
        len(frames.readings(out, 3, seq, t_ms, rows, cols, row_id, first, body))
        for row_id, first in ((None, key), ((3, seq - 1), based))
    ]
    sizes.payload += min(forms)
    sizes.coded += len(based) + timeless
    decimals = [round(math.log10(scale)) for scale in source.scale]
    floats = (block / np.array(source.scale)).tolist()
    documents = [
        {"t": 1_790_000_000_000 + time}
        | {name: round(x, d) if d else int(x) for name, x, d in zip(source.channels, row, decimals, strict=True)}
        for time, row in zip(times, floats, strict=True)
    ]
    sizes.json += len(json.dumps(documents, separators=(",", ":")))
    sizes.float64 += len(msgpack.packb([[source.interval_ms, *row] for row in floats]))
    sizes.float32 += len(msgpack.packb([[source.interval_ms, *row] for row in floats], use_single_float=True))
    gaps = np.diff(np.vstack([before, block]), axis=0).tolist()
    sizes.deltas += len(msgpack.packb([[source.interval_ms, *row] for row in gaps]))


def on_board() -> list[Row]:
    """Time and memory of coding 8 noisy channels under MicroPython on this machine."""
    rows: list[Row] = []
    for size in AIMS:
        block = synthetic(40.0)[1000 : 1000 + size]
        times = [60_000 * row for row in range(size)]
        batch = {"rows": size, "cols": 8, "times": times, "values": block.ravel().tolist()}
        ran = subprocess.run(
            [program("micropython"), "-X", "heapsize=256k", str(ON_BOARD)],
            input=json.dumps(batch).encode(),
            env=os.environ | {"MICROPYPATH": f"{ROOT / 'firmware'}:.frozen"},
            capture_output=True,
            check=True,
            timeout=60,
        )
        found = json.loads(ran.stdout)
        name = f"MicroPython, {size} rows of 8 channels"
        rows += [
            Row(f"{name}: encode", found["encode_us"], "µs", "decode", found["decode_us"]),
            Row(f"{name}: memory of the encoder", found["kept_bytes"], "B", aim="<= 1024"),
            Row(f"{name}: garbage of one batch", found["used_bytes"], "B", aim="the same for any rows"),
        ]
    return rows
