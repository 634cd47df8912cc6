"""Every decoder survives damaged frames, on both runtimes alike and in bounded memory."""

import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cloud import wire_types
from contract.wire import WireError
from tests.contract import fuzz
from tests.contract.suite.check import Random, vectors
from tests.support.micropython import environment
from tools.scenario.program import Program

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(fuzz.__file__)
FRAMES = 1_000_000  # both runtimes together
SOAK_FRAMES = 10_000_000
HEAP = "256k"  # the decoders where they are not frozen, the vectors, and what decoding takes
MEMORY_BYTES = 512 * 2**20  # address space for CPython: one length that is believed does not fit
PEAK_BYTES = 300_000  # of CPython's heap above the corpus: some 4 kB frame as Python objects, and one copy of it
DEADLINE_S = 900


def start(command: list[str], environ: Mapping[str, str], seed: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, str(PROGRAM), str(seed), str(count)],
        env=environ,
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


def fuzz_both(board_program: Program, seed: int, frames: int) -> None:
    """Half of the frames on each runtime, the same half."""
    command = [board_program.micropython, "-X", f"heapsize={HEAP}"]
    board = start(command, environment(board_program, ROOT), seed, frames // 2)
    path = f"{ROOT / 'firmware'}:{ROOT}"
    cloud = start([sys.executable], os.environ | {"PYTHONPATH": path}, seed, frames // 2)
    resource.prlimit(cloud.pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    on_board, on_cloud = result(board), result(cloud)
    total = on_board["count"] + on_cloud["count"]
    taken = sum(count for outcome, count in on_board["outcomes"].items() if outcome.endswith(": taken"))
    print(f"{total:,} damaged frames, {taken / on_board['count']:.1%} still taken, crashes: {on_board['crashes']}")
    assert total == frames
    assert on_board["crashes"] == on_cloud["crashes"] == []
    assert on_board["outcomes"] == on_cloud["outcomes"]


def test_a_million_damaged_frames_crash_no_decoder_and_both_runtimes_agree(best_program: Program) -> None:
    fuzz_both(best_program, 1, FRAMES)


@pytest.mark.soak
@pytest.mark.timeout(2 * DEADLINE_S)
def test_ten_million_damaged_frames_crash_no_decoder(best_program: Program) -> None:
    for seed in range(2, 12):
        fuzz_both(best_program, seed, SOAK_FRAMES // 10)


def test_decoding_damaged_frames_takes_bounded_memory() -> None:
    fuzz.fuzz(3, 100)  # imports and caches
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found = fuzz.fuzz(3, 7_000)
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
    for _ in range(50_000):
        damaged = bytes(fuzz.mutate(random, bytearray(random.pick(frames)), random.pick(frames)))
        for decode in (wire_types.decode_uplink, wire_types.decode_downlink):
            try:
                decode(damaged)
                taken += 1
            except WireError:
                pass
    assert 0 < taken < 25_000
