"""The hazards of a wake cycle: nothing acknowledged is lost and nothing is stored twice, whatever goes wrong.

TinyCloud holds every record it gets twice against the one it has, so a number given to two records ends the test.
"""

import asyncio
import itertools
import json
import os
import random
from pathlib import Path
from typing import Any

from cloud import wire_types as w
from contract import wire
from tests.support import boards
from tests.support.boards import INTERVAL_MS, SPEED, WINDOW, press, samples_taken
from tests.support.broker import Broker
from tests.support.fault_proxy import PUBACK, PUBLISH, FaultProxy, Faults
from tests.support.micropython import evaluate
from tests.support.tiny_cloud import TinyCloud
from tools.provision import BoardPlan, make_board
from tools.provision import Broker as BrokerPlan
from tools.simulate import SimulatedBoard, supervised

DECADE_MS = 10 * 365 * 86_400_000
OUTBOX = """
from device.files import Files
from device.outbox import Outbox
from contract.wire import READINGS
outbox = Outbox(Files, {!r})
outbox.open()
result = [[seq, count] for stream, _, seq, count, _, _ in outbox.pending(0, 1) if stream == READINGS]
"""
ASLEEP = """
import main
parts = main.make_parts()
parts.state.load()
parts.outbox.open()
def refuse(clean):
    raise OSError(28)
parts.updater.end_wake = refuse
from device import cycle
try:
    cycle.sleep(parts)
except SystemExit:
    pass
from device.files import Files
from device.rtc_state import RtcState
state = RtcState(parts.board, Files)
result = [state.load(), state.faults[11]]
"""

SAFE = """
import main
from device import cycle
class Died(BaseException):
    pass
def dies(_recheck):
    raise Died
parts = main.make_parts()
parts.state.load()
parts.state.boot_loops = {resets}
parts.state.store()
parts.board._cause = {cause}
parts.updater.load = dies
try:
    cycle.run(parts)
except Died:
    result = "died"
except SystemExit:
    result = "slept"
"""


def rows_of(cloud: TinyCloud, epoch: int) -> list[list[int]]:
    """The values stored of one epoch, in order; fails where a number is missing."""
    keys = sorted(key for key in cloud.records if key[1] == epoch and key[2] == wire.READINGS)
    assert [key[3] for key in keys] == list(range(len(keys)))
    return [list(cloud.records[key][1]) for key in keys]


def test_while_the_cloud_is_silent_a_board_backs_off_and_keeps_everything(broker: Broker, tmp_path: Path):
    rows = boards.recording(5000)

    async def live() -> tuple[TinyCloud, int, int]:
        async with FaultProxy(broker.port) as proxy, TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", proxy.port, rows, {"sync_interval_ms": 1000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=3)
                cloud.silent = True
                proxy.faults.refuse = True
                before = proxy.connections
                await board.run(wakes=100)
                tries = proxy.connections - before
                cloud.silent = proxy.faults.refuse = False
                for _ in range(60):  # a backoff of up to an hour has to pass
                    if len(cloud.of("pump-1", wire.READINGS)) >= 102 * WINDOW:
                        break
                    await board.run(wakes=10)
                await press(board)
                return cloud, tries, samples_taken(board)

    cloud, tries, taken = asyncio.run(live())
    print(f"{tries} sessions tried in 100 wakes without a broker")
    assert 3 <= tries <= 12, "27 minutes of doubling waits, not 100 tries"
    assert rows_of(cloud, 1) == rows[:taken]


def test_what_the_cloud_has_is_not_sent_again_although_its_answer_was_lost(broker: Broker, tmp_path: Path):
    rows = boards.recording(1000)

    async def live() -> tuple[TinyCloud, int]:
        async with FaultProxy(broker.port) as proxy, TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", proxy.port, rows)
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=8)
                proxy.faults = Faults(cut_at={PUBLISH})  # the records are through, the retained ACK never comes
                await press(board)
                async with asyncio.timeout(5):
                    while len(cloud.of("pump-1", wire.READINGS)) < samples_taken(board):
                        await asyncio.sleep(0.05)
                await asyncio.sleep(0.1)  # the broker retains the ACK for it
                proxy.faults = Faults()
                await board.run(wakes=10)
                await press(board)
        return cloud, samples_taken(board)

    cloud, taken = asyncio.run(live())
    assert rows_of(cloud, 1) == rows[:taken]
    assert set(cloud.times_received.values()) == {1}, "the retained ACK is looked at before anything is sent"


def test_what_was_sent_and_never_answered_is_sent_again_and_stored_once(broker: Broker, tmp_path: Path):
    rows = boards.recording(1000)

    async def live() -> tuple[TinyCloud, int]:
        async with FaultProxy(broker.port) as proxy, TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", proxy.port, rows)
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=8)
                proxy.faults = Faults(cut_at={PUBLISH})
                await press(board)
                proxy.faults = Faults(withhold={PUBLISH})
                await board.run(wakes=1)
                proxy.faults = Faults()
                await board.run(wakes=10)
                await press(board)
        return cloud, samples_taken(board)

    cloud, taken = asyncio.run(live())
    assert rows_of(cloud, 1) == rows[:taken]
    assert max(cloud.times_received.values()) >= 2


def test_a_broker_that_hands_over_in_the_middle_of_a_session_is_followed_in_the_same_wake(
    broker: Broker, tmp_path: Path
):
    async def live() -> tuple[TinyCloud, FaultProxy, int, int]:
        async with FaultProxy(broker.port) as proxy, TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", proxy.port, settings={"sync_interval_ms": 86_400_000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=8)
                taken, sessions = proxy.connections + 1, len(proxy.published())
                proxy.plan = lambda number: Faults(cut_at={PUBACK}) if number == taken else Faults()
                await press(board)
                return cloud, proxy, sessions, samples_taken(board)

    cloud, proxy, before, taken = asyncio.run(live())
    assert rows_of(cloud, 1) == boards.recording(taken)
    sent = proxy.published()[before:]
    first, again = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    assert not any(packet.dup for packet in first)
    assert all(packet.dup for packet in again)
    assert [packet.packet_id for packet in first] == [packet.packet_id for packet in again]


def test_a_board_killed_at_random_points_loses_and_doubles_nothing(broker: Broker, tmp_path: Path):
    """40 wakes end in the middle; RTC memory keeps what was last written to it, as through a watchdog reset."""
    rows = boards.recording(5000)
    source = random.Random(7)

    async def live() -> TinyCloud:
        killed = 0
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, rows, {"sync_interval_ms": 1000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=2)
                while killed < 40:
                    task = asyncio.create_task(board.wake())
                    await asyncio.sleep(source.uniform(0.0, 0.04))
                    board.kill()
                    killed += await task is None
                    if killed % 3 == 2:  # fewer in a row than safe mode needs
                        await board.run(wakes=1)
                await board.run(wakes=10)
                await press(board, 2)
        return cloud

    cloud = asyncio.run(live())
    stored = rows_of(cloud, 1)
    assert stored == rows[: len(stored)]
    assert len(stored) >= 20 * WINDOW
    assert {key[1] for key in cloud.records} == {1}, "RTC memory survives a reset: no new epoch"


def test_a_power_cut_begins_a_new_epoch_and_keeps_what_is_on_flash(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        rows = boards.recording(5000, (range(3 * WINDOW, 200 * WINDOW),))
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, rows, {"sync_interval_ms": 86_400_000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=2)
                cloud.silent = True
                await board.run(wakes=3)  # the anomaly is on flash, and not acknowledged
                board.cut_power()
                cloud.silent = False
                await board.run(wakes=4)
                await press(board)
        return cloud

    cloud = asyncio.run(live())
    events = sorted(key for key in cloud.records if key[2] == wire.EVENT)
    assert events[0] == ("pump-1", 1, wire.EVENT, 0), "the event of the epoch that ended came after it"
    assert cloud.hellos["pump-1"][-1].epoch == 2
    assert rows_of(cloud, 2) == boards.recording(5000, (range(3 * WINDOW, 200 * WINDOW),))[: len(rows_of(cloud, 2))]
    assert len(rows_of(cloud, 2)) > 0


def test_a_board_whose_flash_was_wiped_takes_no_number_twice(broker: Broker, tmp_path: Path):
    rows = boards.recording(5000)

    async def live() -> TinyCloud:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, rows)
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=10)
                await press(board)
                board.cut_power()
                for name in ("epoch.0", "epoch.1"):
                    (folder / "flash" / name).unlink(missing_ok=True)
                for part in (folder / "flash" / "outbox").iterdir():
                    part.unlink()
                await board.run(wakes=10)
                await press(board)
        return cloud

    cloud = asyncio.run(live())
    first, second = sorted({key[1] for key in cloud.records})
    assert first == 1
    assert rows_of(cloud, first) == rows[: 9 * WINDOW]
    assert rows_of(cloud, second) == rows[: 9 * WINDOW], "a board whose flash lost the epoch leaps to another"
    assert set(cloud.times_received.values()) == {1}


def test_a_base_the_cloud_has_lost_is_replaced_by_a_key_frame_in_the_same_session(broker: Broker, tmp_path: Path):
    rows = boards.recording(5000)

    async def live() -> tuple[TinyCloud, int]:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, rows)
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=10)
                await press(board)
                await board.run(wakes=1)
                base = max(key for key in cloud.records if key[2] == wire.READINGS)
                row = cloud.records.pop(base)
                keys_before = cloud.key_frames
                await press(board)
                cloud.records[base] = row
                return cloud, cloud.key_frames - keys_before

    cloud, key_frames = asyncio.run(live())
    assert key_frames == 1
    assert rows_of(cloud, 1) == rows[: 10 * WINDOW]


def test_a_cloud_restored_from_a_backup_is_told_what_no_longer_exists(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port)
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=20)
                await press(board)
                await cloud.forget_below("pump-1", 1, [0, 0, 0, 0, 100])
                await board.run(wakes=2)
                await press(board)
                assert not board_is_failing(folder)
        return cloud

    cloud = asyncio.run(live())
    hellos = cloud.hellos["pump-1"]
    assert len(hellos) == 2
    assert hellos[-1].floors[-1][-1] == 19 * WINDOW, "all below is gone from the board"
    newest = max(key[3] for key in cloud.records if key[2] == wire.READINGS)
    assert newest == 21 * WINDOW - 1


def board_is_failing(folder: Path) -> bool:
    """True when the board logged a fault."""
    return (folder / "log.txt").read_text() != ""


def test_the_clock_of_records_goes_on_through_jumps_of_ten_years(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, settings={"sync_interval_ms": 1000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=10)
                for jump_ms in (DECADE_MS, -DECADE_MS, -DECADE_MS, 86_400_000):
                    path = folder / "wake.json"
                    wake = json.loads(path.read_text())
                    path.write_text(json.dumps(wake | {"clock_ms": wake["clock_ms"] + jump_ms}))
                    await board.run(wakes=10)
                await press(board)
        return cloud

    cloud = asyncio.run(live())
    times = [t_ms for t_ms, _ in cloud.of("pump-1", wire.READINGS)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == 49 * WINDOW
    assert min(gaps) > 0
    assert max(gaps) <= INTERVAL_MS, "a jump is taken for one sleep"
    assert len(cloud.hellos["pump-1"]) == 5, "the clocks are paired anew after each jump"


def test_a_failing_sensor_is_counted_and_the_board_still_syncs(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, settings={"interval_ms": 600_000})
            (folder / "flash" / "recording.bin").write_bytes(b"not a recording")
            async with supervised([folder], 100_000) as [board]:
                await board.run(wakes=40)
        return cloud

    cloud = asyncio.run(live())
    health = cloud.of("pump-1", wire.HEALTH)[-1]
    assert boards.faults(health) == {"sensor": health.wakes}


def test_a_configuration_that_cannot_be_used_lets_the_board_sleep(tmp_path: Path):
    async def live() -> tuple[str, int]:
        folder = boards.make(tmp_path / "pump-1", 1)
        (folder / "flash" / "config.json").write_text('{"device": "pump-1", "kind": ""}')
        async with supervised([folder], 1e6) as [board]:
            await board.run(wakes=2)
            assert board.last is not None
            return (folder / "log.txt").read_text(), board.last.sleep_ms

    log, sleep_ms = asyncio.run(live())
    assert "ConfigError: kind must be a str, is ''" in log
    assert sleep_ms == 600_000


def test_a_wake_that_hangs_is_ended_by_the_watchdog_and_a_loop_of_them_by_safe_mode(
    broker: Broker, tmp_path: Path, monkeypatch: Any
):
    """The sensor's file becomes a pipe that nobody writes to: opening it blocks for ever."""
    monkeypatch.setattr("tools.simulate.WAKE_DEADLINE_S", 2.0)  # a wake takes milliseconds, and more beside other tests

    async def live() -> tuple[TinyCloud, SimulatedBoard]:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, settings={"sync_interval_ms": 1000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=5)
                recording = folder / "flash" / "recording.bin"
                kept = recording.rename(tmp_path / "recording.bin")
                os.mkfifo(recording)
                await board.run(wakes=1)  # only a wake that ends counts: the safe one
                recording.unlink()
                kept.rename(recording)
                await board.run(wakes=3)
        return cloud, board

    cloud, board = asyncio.run(live())
    assert board.totals.hangs == 4
    assert board.totals.by_cause[wire.WAKE_WATCHDOG] == 1
    assert [event.kind for event in cloud.of("pump-1", wire.EVENT)] == [wire.EVENT_BOOT_LOOP]
    assert rows_of(cloud, 1)[-1][1] == 7 * WINDOW - 1, "measuring goes on after the safe wake, nothing is left out"


def test_rows_of_the_old_channels_go_to_flash_before_rows_of_others_are_taken(tmp_path: Path):
    async def live() -> str:
        folder = boards.make(tmp_path / "pump-1", 1, world={"radio": False})
        plan = BoardPlan("pump-1", "pump", "v1;w=16;c=flow:l/s:100;f=mean", boards.INTERVAL_MS, BrokerPlan(1), log=True)
        other = make_board(tmp_path / "other", plan, [[n] for n in range(500)], boards.SAMPLE_MS)
        async with supervised([folder], SPEED) as [board]:
            await board.run(wakes=4)
            for name in ("config.json", "recording.bin"):
                (other / "flash" / name).replace(folder / "flash" / name)
            await board.run(wakes=2)
        return (folder / "log.txt").read_text()

    assert "rows of 2 channels wait" not in asyncio.run(live())
    flash = tmp_path / "pump-1" / "flash"
    assert evaluate(OUTBOX.format(str(flash / "outbox"))) == [[0, 3 * WINDOW]]


def test_what_flash_hides_for_a_while_is_not_told_as_given_up(broker: Broker, tmp_path: Path):
    async def live() -> tuple[TinyCloud, int]:
        rows = boards.recording(5000, (range(2 * WINDOW, 200 * WINDOW),))
        async with TinyCloud(broker.port) as cloud:
            settings = {"sync_interval_ms": 1000}
            folder = boards.make(tmp_path / "pump-1", broker.port, rows, settings, {"radio": False})
            outbox = folder / "flash" / "outbox"
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=4)  # the anomaly is on flash
                kept = outbox.rename(tmp_path / "outbox")
                outbox.touch()
                (folder / "sim.json").write_text("{}")
                await board.run(wakes=3)
                hidden = len(cloud.hellos["pump-1"])
                outbox.unlink()
                kept.rename(outbox)
                await board.run(wakes=2)
                await press(board)
        return cloud, hidden

    cloud, hidden = asyncio.run(live())
    assert ("pump-1", 1, wire.EVENT, 0) in cloud.records
    assert hidden == 0, [hello.floors for hello in cloud.hellos["pump-1"]]


def test_flash_that_refuses_what_ends_a_wake_keeps_no_wake_from_being_remembered(tmp_path: Path):
    assert evaluate(ASLEEP, boards.make(tmp_path / "pump-1", 1)) == [0, 1]


def test_a_wish_and_a_command_that_flash_cannot_keep_fail_no_session(broker: Broker, tmp_path: Path):
    async def live() -> tuple[TinyCloud, int]:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, settings={"sync_interval_ms": 1000})
            for name in ("desired.0", "desired.1", "command.0", "command.1"):
                (folder / "flash" / name).mkdir()
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=2)
                await cloud.want("pump-1", 1, {"heartbeat_rows": 50})
                await cloud.do("pump-1", w.Do(1, wire.VERB_RAW_WINDOW))
                await board.run(wakes=6)
                await press(board)
                return cloud, samples_taken(board)

    cloud, taken = asyncio.run(live())
    assert rows_of(cloud, 1) == boards.recording(taken), "no session failed, so no breaker held one back"
    assert cloud.hellos["pump-1"][-1].config_version == 0, "the cloud sees that its wish is not in force"


def test_an_acknowledgement_of_the_highest_epoch_there_is_changes_nothing(broker: Broker, tmp_path: Path):
    async def live() -> tuple[TinyCloud, int]:
        async with TinyCloud(broker.port) as cloud:
            folder = boards.make(tmp_path / "pump-1", broker.port, settings={"sync_interval_ms": 1000})
            async with supervised([folder], SPEED) as [board]:
                await board.run(wakes=2)
                forged = w.Ack(1, ((wire.MAX_U32, 9, 9, 9, 9, 9),))
                await cloud.forge_ack("pump-1", forged)
                await board.run(wakes=3)
                await press(board)
                return cloud, samples_taken(board)

    cloud, taken = asyncio.run(live())
    assert rows_of(cloud, 1) == boards.recording(taken)


def test_safe_mode_loads_no_model(tmp_path: Path):
    folder = boards.make(tmp_path / "pump-1", 1, world={"radio": False})
    assert evaluate(SAFE.format(resets=2, cause=wire.WAKE_WATCHDOG), folder) == "died"
    assert evaluate(SAFE.format(resets=3, cause=wire.WAKE_WATCHDOG), folder) == "slept", "or no update could mend it"
