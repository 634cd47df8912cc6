"""A simulated board in virtual time: wake after wake of the firmware in one process, for tools/scenario/board.py.

    micropython tools/on_board/virtual_board.py DOWN UP EDGEWISE | JSON FEATURES

Run under MicroPython with the firmware frozen in or on MICROPYPATH, and EDGEWISE_BOARD_DIR set. The modules stay
loaded from wake to wake, which is what makes a wake cost one millisecond of this machine and not six; every object of a
wake is made anew by main.make_parts(), and a test compares the wakes with those of one process each.
EDGEWISE runs the firmware, JSON the naive program that naive_uplink.py is. FEATURES is a folder with the native module
of features, for a frozen firmware, which cannot hold it; empty where there is none or the firmware finds it by itself.
"""

# ruff: noqa: E402
# The world comes before the firmware, whose modules then find the time and the sockets of the world.

import json
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from virtual_world import Pipe, World

world = World(Pipe(int(sys.argv[1]), int(sys.argv[2])))
world.install()
clock = world.time

if sys.argv[4]:
    sys.path.append(sys.argv[4])
    import ew_features

    import device

    device.ew_features = ew_features  # where `from device import ew_features` looks first
    sys.path.pop()

import main

from contract.wire import FAULT_RADIO, STREAMS
from device import cycle, ledger
from device.board import CLOCK_START_MS, host
from device.errors import LinkError
from device.health import Health
from device.sensors.replay import ReplaySensor

_FLASH_BYTES = 1500000  # free, whatever this machine's disk has: the number is part of records


class Asleep(BaseException):
    """Deep sleep; the argument is for how long."""


class VirtualBoard(host.Board):
    """host.Board without files and without real time."""

    rtc = bytearray(0)  # of the class: it outlives a wake
    order = None
    steps = 0

    def __init__(self, wifi: object, pins: object = None, wake: object = None) -> None:
        super().__init__(wifi, pins, wake)
        self._draws = self._sim["draws"]
        clock.ms += self._sim["cpu_ms"]

    def step(self) -> None:
        """Count a call of the board, and hang at the one that the scenario chose."""
        VirtualBoard.steps += 1
        if VirtualBoard.steps == self.order["hangs_at"]:
            world.pipe.tell(b"M", 0, self.rtc)
            world.pipe.ask(b"D", self.woke_ms)

    def now_ms(self) -> int:
        self.step()
        return super().now_ms()

    def rtc_read_into(self, buf: bytearray) -> int:
        size = len(self.rtc)
        buf[:size] = self.rtc
        return size

    def rtc_write(self, buf: bytes) -> None:
        self.step()
        VirtualBoard.rtc = bytearray(buf)
        self.step()

    def deep_sleep(self, sleep_ms: int) -> None:
        self.step()
        raise Asleep(sleep_ms)

    def radio_up(self, _until: int, cache: bytes) -> bytes:
        self.step()
        took_ms, _ = world.pipe.ask(b"A", clock.ms, b"1" if any(cache) else b"0")
        clock.ms += abs(took_ms)
        if took_ms < 0:
            raise LinkError(FAULT_RADIO, "no access point")
        return b"\1" + bytes(23)

    def watchdog_feed(self) -> None:
        self.step()

    def free_flash(self) -> int:
        return _FLASH_BYTES

    def random16(self) -> int:
        """The next number of a sequence that the scenario's seed decides; tools/scenario/replay.py draws the same."""
        self._draws = (self._draws * 1103515245 + 12345) & 0x7FFFFFFF
        return self._draws >> 15 & 0xFFFF


class Fifo(ReplaySensor):
    """A sensor that keeps its last window of samples: which they are depends on the time alone."""

    def take_into(self, first: int, elapsed_ms: object, window: object) -> int:
        at_ms = VirtualBoard.order["at_ms"]
        newest = at_ms // self.interval_ms
        rows = len(window) // self._columns
        super().take_into(max(0, newest + 1 - rows), None, window)
        return rows if elapsed_ms is None else min(rows, newest - (at_ms - elapsed_ms) // self.interval_ms)


class Notes:
    """What this wake did, for the trace."""

    def __init__(self) -> None:
        self.found = {}

    def watch(self, owner: object, name: str, look: object) -> None:
        """Call look(result, *arguments) after owner.name."""
        original = getattr(owner, name)

        def watched(*arguments: object) -> object:
            result = original(*arguments)
            look(result, *arguments)
            return result

        setattr(owner, name, watched)


notes = Notes()


def spend_and_note(health: Health, *times: int) -> None:
    """Health.spend(), and what it charged for this wake alone."""
    before = list(health._state.energy_uj)
    spend(health, *times)
    notes.found["spent"] = times
    notes.found["energy"] = [after - was for after, was in zip(health._state.energy_uj, before)]


def note_score(verdict: object, _parts: object, detector: object, *_ignored: object) -> None:
    notes.found["verdict"] = (verdict.score, verdict.threshold, verdict.route, verdict.reason, detector.margin)


def note_sync(why: int, _parts: object) -> None:
    notes.found["sync"] = why


def note_session(_result: object, _health: Health, link: object) -> None:
    notes.found["session"] = (link.sessions, link.failures, link.tx_bytes, link.rx_bytes, link.turns)


def summary(parts: object) -> dict:
    """The rest of what the trace holds, from the parts of a wake that is over."""
    state = parts.state
    return {
        "band": state.battery_band,
        "epoch": state.epoch,
        "began": state.began_ms - CLOCK_START_MS,
        "made": list(state.next_seq),
        "dropped": parts.outbox.dropped,
        "ring": state.ring_bytes + state.tail_bytes,
        "alarm": state.alarm,
        "breaker": (state.breaker_state, state.breaker_failures),
        "quality": state.link_quality,
        "next_sync": state.next_sync_ms,
        "clean": parts.clean,
        "more": parts.more or any(parts.outbox.holds(stream) for stream in STREAMS),
    }


def run_firmware() -> dict:
    parts = main.make_parts()
    try:
        cycle.run(parts)
    except Asleep as asleep:
        notes.found["sleep_ms"] = asleep.args[0]
    notes.found.update(summary(parts))
    return notes.found


def rates() -> list:
    """What the ledger charges, nanojoule for a ms awake, with the radio on, asleep, for a byte of flash; and a boot."""
    one = []
    for times in ((1000000, 0, 0, 0), (1000000, 1000000, 0, 0), (0, 0, 1000000, 0), (0, 0, 0, 1000000)):
        energy_uj = [0, 0, 0, 0]
        ledger.charge(energy_uj, *times)
        one.append(energy_uj)
    boot = [0, 0, 0, 0]
    ledger.charge(boot, 0, 0, 0, 0)
    found = [(one[0][0] - boot[0]) / 1000, one[1][1] / 1000, one[2][2] / 1000, one[3][3] / 1000]
    return found + [boot[0] * 1000]


def serve(program: object) -> None:
    """Wake after wake until the supervisor closes the pipe."""
    world.pipe.tell(b"R", 0, json.dumps(rates()).encode())
    _, VirtualBoard.rtc = world.pipe.hear()
    while True:
        order = world.hear_order()
        VirtualBoard.order = order
        VirtualBoard.steps = 0
        if not order["wake"]:
            VirtualBoard.rtc = bytearray(0)  # power was lost
        files = {"/wake.json": order["wake"], "/sim.json": order["sim"]}
        host._read_json = files.get
        clock.ms = order["wake"].get("clock_ms", CLOCK_START_MS) + order["wake"].get("slept_ms", 0)
        notes.found = {}
        found = program()
        found["steps"] = VirtualBoard.steps
        world.pipe.tell(b"M", 0, VirtualBoard.rtc)
        world.pipe.tell(b"S", clock.ms, json.dumps(found).encode())


def once(make: object) -> object:
    """make(), which for the same arguments is called once in the life of this process."""
    made = {}

    def kept(*arguments: object) -> object:
        if arguments not in made:
            made[arguments] = make(*arguments)
        return made[arguments]

    return kept


host.Board = VirtualBoard
main.Features = once(main.Features)  # a sixth of a wake goes into reading the schema, which never changes
main.open_sensor = lambda settings, files, board, features: Fifo(files, board.root + "/" + settings["file"], features)
if sys.argv[3] == "JSON":
    from naive_uplink import Uplink

    serve(Uplink(VirtualBoard, Asleep, notes, main.open_sensor).run)
spend, Health.spend = Health.spend, spend_and_note
notes.watch(Health, "session", note_session)
notes.watch(cycle, "score", note_score)
notes.watch(cycle, "sync_reason", note_sync)
serve(run_firmware)
