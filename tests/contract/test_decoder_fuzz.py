"""Every decoder survives damaged frames, on both runtimes alike and in bounded memory."""

import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from cloud import wire_types
from contract.wire import WireError
from tests.contract import fuzz
from tests.contract.suite.check import Random, vectors

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(fuzz.__file__)
FRAMES = 1_000_000  # both runtimes together
SOAK_FRAMES = 10_000_000
HEAP = "256k"  # the decoders compiled from source, the vectors, and what decoding takes
MEMORY_BYTES = 512 * 2**20  # address space for CPython: one length that is believed does not fit
PEAK_BYTES = 300_000  # of CPython's heap above the corpus: some 4 kB frame as Python objects, and one copy of it
DEADLINE_S = 900


def start(interpreter: str, options: list[str], seed: int, count: int) -> subprocess.Popen[str]:
    path = f"{ROOT / 'firmware'}:{ROOT}"
    return subprocess.Popen(
        [interpreter, *options, str(PROGRAM), str(seed), str(count)],
        env=os.environ | {"MICROPYPATH": path + ":.frozen", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-2000:]
    return json.loads(out)


def fuzz_both(micropython: str, seed: int, frames: int) -> None:
    """Half of the frames on each runtime, the same half."""
    board = start(micropython, ["-X", f"heapsize={HEAP}"], seed, frames // 2)
    cloud = start(sys.executable, [], seed, frames // 2)
    resource.prlimit(cloud.pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    on_board, on_cloud = result(board), result(cloud)
    total = on_board["count"] + on_cloud["count"]
    taken = sum(count for outcome, count in on_board["outcomes"].items() if outcome.endswith(": taken"))
    print(f"{total:,} damaged frames, {taken / on_board['count']:.1%} still taken, crashes: {on_board['crashes']}")
    assert total == frames
    assert on_board["crashes"] == on_cloud["crashes"] == []
    assert on_board["outcomes"] == on_cloud["outcomes"]


def test_a_million_damaged_frames_crash_no_decoder_and_both_runtimes_agree(micropython: str) -> None:
    fuzz_both(micropython, 1, FRAMES)


@pytest.mark.soak
@pytest.mark.timeout(2 * DEADLINE_S)
def test_ten_million_damaged_frames_crash_no_decoder(micropython: str) -> None:
    for seed in range(2, 12):
        fuzz_both(micropython, seed, SOAK_FRAMES // 10)


def test_decoding_damaged_frames_takes_bounded_memory() -> None:
    fuzz.fuzz(3, 100)  # imports and caches
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found = fuzz.fuzz(3, 20_000)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    print(f"peak {peak:,} bytes")
    assert found["crashes"] == []
    assert peak < PEAK_BYTES


def test_the_cloud_refuses_damaged_frames_with_a_wire_error_only() -> None:
    random = Random(4)
    wire = vectors("wire")
    frames = [bytes.fromhex(vector["hex"]) for vector in wire["up"] + wire["down"]]
    taken = 0
    for _ in range(100_000):
        damaged = bytes(fuzz.mutate(random, bytearray(random.pick(frames)), random.pick(frames)))
        for decode in (wire_types.decode_uplink, wire_types.decode_downlink):
            try:
                decode(damaged)
                taken += 1
            except WireError:
                pass
    assert 0 < taken < 50_000
