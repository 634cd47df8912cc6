"""device/breaker.py: failures, backoff and tokens outlast deep sleep, resets and power losses, and cost little."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import policy
from tests.support import boards
from tests.support.boards import SPEED
from tests.support.broker import Broker
from tests.support.micropython import evaluate, run
from tests.support.tiny_cloud import TinyCloud
from tools.scenario.program import Program
from tools.simulate import supervised

REFUSED = Path(__file__).parent / "programs" / "refused.py"
CONNECTIONS = 1000

# What a refused connection may cost. An ESP32-S3 with cached channel and static address needs 774 ms of radio for the
# association and one MQTT message (glenn20's measurement); a refusal ends before the message, so all of it is generous.
# Processor and boot before: 49 ms to the first line, and 150 ms for a wake with its session's modules. At 363 mW with
# the radio on and 132 mW without: 0.774 x 363 + 0.199 x 132 = 307 mJ. Half as much again for a poor day: 460 mJ, so
# 1,000 of them 460 J, 1.2 % of what a cell of 3,000 mAh holds (40 kJ); by the backoff they take half a year.
ASSOCIATION_MS = 774
AWAKE_MS = 150
BUDGET_J = 460


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of this machine on which nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def memory(folder: Path) -> dict[str, Any]:
    """The fields of RTC memory that hold a board back."""
    names = ("breaker_state", "breaker_failures", "breaker_until_ms", "tokens_milli", "tokens_ms", "epoch")
    return evaluate(
        f"""
        from device.rtc_layout import FIELDS, unpack
        with open({str(folder / "rtc.bin")!r}, "rb") as file:
            fields = dict(unpack(FIELDS, bytearray(file.read())))
        result = {{name: fields[name] for name in {names!r}}}
        """
    )


def kept(folder: Path) -> list[int]:
    """Failures and tokens as flash has them."""
    return evaluate(
        """
        import struct
        from device.board.host import ROOT
        from device.files import Files
        from device.records import Record
        result = list(struct.unpack("<BI", Record(Files, ROOT + "/breaker").load()))
        """,
        board=folder,
    )


def test_failures_and_tokens_outlast_deep_sleep_and_a_power_loss(refusing_port: int, tmp_path: Path):
    async def live() -> tuple[dict[str, Any], dict[str, Any], list[int], dict[str, Any], int]:
        folder = boards.make(tmp_path / "pump-1", refusing_port, settings={"syncs_per_hour": 10})
        async with supervised([folder], SPEED) as [board]:
            for _ in range(40):
                await board.run(wakes=1)
                if memory(folder)["breaker_failures"] == 6:
                    break
            before = memory(folder)
            await board.run(wakes=1)
            after_sleep = memory(folder)
            on_flash = kept(folder)
            board.cut_power()
            await board.run(wakes=1)
            assert board.last is not None
            return before, after_sleep, on_flash, memory(folder), board.last.clock_ms

    before, after_sleep, on_flash, after_loss, clock_ms = asyncio.run(live())
    assert (before["breaker_state"], before["breaker_failures"]) == (policy.BREAKER_OPEN, 6)
    for name in ("breaker_state", "breaker_failures", "breaker_until_ms"):
        assert after_sleep[name] == before[name], "the wake after it tried nothing"
    assert after_loss["epoch"] == before["epoch"] + 1
    assert (after_loss["breaker_state"], after_loss["breaker_failures"]) == (policy.BREAKER_OPEN, 6)
    shortest = policy.backoff_ms(6, 0)
    assert shortest - 1000 <= after_loss["breaker_until_ms"] - clock_ms <= 2 * shortest, "the wait begins anew"
    assert on_flash[0] == 6
    assert on_flash[1] <= after_loss["tokens_milli"] < on_flash[1] + policy.MILLI
    print(f"after a power loss: {after_loss['breaker_failures']} failures, {after_loss['tokens_milli']} milli-tokens")


def test_a_board_that_loses_its_power_in_every_session_does_not_try_at_every_start(refusing_port: int, tmp_path: Path):
    """As one whose weak cell gives way when the radio comes up."""

    async def live() -> list[int]:
        folder = boards.make(tmp_path / "pump-1", refusing_port)
        failures: list[int] = []
        async with supervised([folder], SPEED) as [board]:
            for _ in range(12):
                await board.run(wakes=1)
                failures.append(memory(folder)["breaker_failures"])
                board.cut_power()
        return failures

    failures = asyncio.run(live())
    assert failures[0] == 1
    assert failures[-1] == 1, "twelve starts, each within the wait that the first failure left"


def test_a_session_that_works_clears_what_flash_remembers(broker: Broker, tmp_path: Path):
    async def live() -> tuple[list[int], int]:
        folder = boards.make(tmp_path / "pump-1", broker.port)
        async with TinyCloud(broker.port), supervised([folder], SPEED) as [board]:
            await board.run(wakes=2)
            return kept(folder), memory(folder)["tokens_milli"]

    (failures, tokens), in_memory = asyncio.run(live())
    assert failures == 0
    assert tokens <= in_memory


def test_a_thousand_refused_connections_stay_within_their_energy_budget(
    refusing_port: int, tmp_path: Path, best_program: Program
):
    folder = boards.make(tmp_path / "pump-1", refusing_port, log=False)
    (report,) = asyncio.run(run_on(folder, best_program))
    seconds = report["clock_ms"] / 1000
    own = report["energy_uj"]
    chip = CONNECTIONS * (ASSOCIATION_MS * 363e-6 + AWAKE_MS * 132e-6)  # what this machine does in no time
    joules = sum(own) / 1e6 + chip
    print(
        f"{report['tries']} refused connections in {seconds / 86400:.0f} days of the board's clock: {joules:.0f} J of"
        f" {BUDGET_J} J, of which the firmware's own time {own[0] / 1e6:.1f} J active, {own[1] / 1e6:.1f} J radio,"
        f" {own[3] / 1e6:.2f} J flash; state {report['breaker']}"
    )
    assert report["tries"] == CONNECTIONS
    assert report["heap_growth"] <= 1024, "a board must last through any number of them"
    assert joules <= BUDGET_J
    assert seconds >= (CONNECTIONS - 14) * 2 * 3600, "the wait grows to hours, not only the count"


async def run_on(folder: Path, program: Program) -> list[Any]:
    import os

    os.environ["EDGEWISE_BOARD_DIR"] = str(folder)
    try:
        return await run(REFUSED, CONNECTIONS, heap="512k", within=program)
    finally:
        del os.environ["EDGEWISE_BOARD_DIR"]
