"""Runs on MicroPython: the whole firmware over a flash in RAM, a wake at a time, its session through stdin and stdout.

EDGEWISE_BOARD_DIR: the folder of a board, of which flash/ is what it begins with; argv: {sha8 hex: fault} as JSON, what
becomes of models whose self-test passes: "raises" an exception at each score, or "dies" with the whole board.

Each line is JSON. Asked for: {"do": "keep", "name"} and {"do": "back", "name"}, to which the board returns, or {"do":
"wake", "cause": WAKE_*, "power": bool, "cut": operations on flash until the power goes or -1, "part": of the last one}.
During a wake the board says ["open"], ["up", hex], ["poll"] and
waits for an answer: true or false, nothing (a null), and [kind, hex, retained] or null. It tells ["ran", sha8 or "",
score of PROBE] when it loads a model, and at the end ["over", how, sleep in ms, UPDATE_*, [known bad sha8..]].
"""

import gc
import json
import os
import sys
from array import array

import main
import vfs
from ram_block import NONE, RamBlock, formatted

from contract.wire import FAULT_CLOSED, FAULT_RADIO
from device import detector, slots
from device.board import ABI, ARCH, CLOCK_START_MS
from device.errors import LinkError
from device.files import Files

ROOT = "/chip"
PROBE = array("i", (1, 2, 3))
_BLOCKS = 40
_HEARD_MS = 5  # what a message that comes takes of the board's time
_FAULTS = json.loads(sys.argv[1])


class PowerCut(BaseException):
    """The supply is gone."""


class Asleep(BaseException):
    """What deep_sleep() ends a wake with."""


class Chip(RamBlock):
    """Flash whose power goes at an operation; what is left of a dead wake finds no way back to it."""

    def __init__(self, image):
        super().__init__(_BLOCKS, image)
        self.left = -1
        self.part = NONE

    def writeblocks(self, block, buf, offset=0):
        self._spend((block, offset, bytes(buf)))
        return super().writeblocks(block, buf, offset)

    def ioctl(self, request, block):
        if request == 6:
            self._spend((block, -1, b""))
        return super().ioctl(request, block)

    def _spend(self, operation):
        if self.left == 0:
            self.apply(operation, self.part)
            self.part = NONE
            raise PowerCut
        self.left -= 1


class World:
    """What outlives a wake."""

    def __init__(self, image):
        self.image = image
        self.rtc = None
        self.clock_ms = CLOCK_START_MS
        self.cause = 0
        self.draws = 0


class Board:
    """See firmware/DESIGN.md "Board". Its clock stands still but for what it waits and sleeps."""

    root = ROOT
    arch = ARCH
    abi = ABI

    def __init__(self, _wifi, _pins=None, _wake=None):
        self.woke_ms = world.clock_ms

    def wake_cause(self):
        return world.cause

    def rtc_read_into(self, buf):
        if world.rtc is None:
            return 0
        buf[:] = world.rtc
        return len(world.rtc)

    def rtc_write(self, buf):
        world.rtc = bytes(buf)

    def now_ms(self):
        return world.clock_ms

    def deep_sleep(self, sleep_ms):
        raise Asleep(sleep_ms)

    def line_active(self):
        return False

    def arm_line(self, how):
        pass

    def battery_mv(self):
        return 4000

    def radio_up(self, _until, cache):
        return cache

    def radio_down(self):
        pass

    def rssi(self):
        return -60

    def free_flash(self):
        status = os.statvfs(ROOT)
        return status[1] * status[3]

    def random16(self):
        world.draws += 1
        return world.draws * 40503 & 0xFFFF

    def watchdog_feed(self):
        pass


class Link:
    """device.link.Link by its contract, over stdin and stdout."""

    def __init__(self, board):
        self.on_message = None
        self.radio_cache = bytes(24)
        self.sessions = self.radio_ms = self.tx_bytes = self.rx_bytes = self.failures = self.refused = self.turns = 0
        self.was_closed = False
        self._board = board
        self._end_ms = 0

    def open(self, budget_ms):
        self.sessions += 1
        self._end_ms = world.clock_ms + budget_ms
        if not ask("open"):
            raise LinkError(FAULT_RADIO, "no access point")

    def send(self, frame, _key):
        self.send_once(frame)

    def send_once(self, frame):
        if not ask("up", bytes(frame).hex()):
            raise LinkError(FAULT_CLOSED, "the broker is gone")

    def settle(self):
        pass

    def poll(self, wait_ms):
        came = ask("poll")
        world.clock_ms += _HEARD_MS if came else wait_ms
        if came is None:
            return False
        kind, payload, retained = came
        self.on_message(kind, memoryview(bytes.fromhex(payload)), retained)
        return True

    def left_ms(self):
        return self._end_ms - world.clock_ms

    def close(self, fault=None):
        if fault is not None:
            self.failures += 1


class BoardTime:
    """The `time` of a module, by the board's clock: how busy this machine is changes nothing."""

    ticks_ms = staticmethod(lambda: world.clock_ms & 0x3FFFFFFF)
    ticks_us = staticmethod(lambda: 0)
    ticks_add = staticmethod(lambda ticks, delta: (ticks + delta) & 0x3FFFFFFF)
    ticks_diff = staticmethod(lambda end, start: ((end - start + 0x20000000) & 0x3FFFFFFF) - 0x20000000)


def ask(*what):
    print(json.dumps(what))
    return json.loads(sys.stdin.readline())


def tell(*what):
    print(json.dumps(what))


def hold_session(parts):
    from device import sync

    sync.time = BoardTime
    sync.sync(parts, Link(parts.board))


def watched(updater):
    """Tells what load() found, and makes faulty models fail as they do on a board: after their self-test."""
    load = updater.load

    def load_and_tell(recheck):
        model = load(recheck)
        tell("ran", model.sha8.hex() if model else "", model.score(PROBE) if model else None)
        fault = model and _FAULTS.get(model.sha8.hex())
        if fault:
            model._score = _dies if fault == "dies" else _raises
        return model

    updater.load = load_and_tell


def _raises(_features):
    raise ValueError("this model does not work here")


def _dies(_features):
    raise SystemExit


def wake(asked):
    """One wake; returns ["over", ...]."""
    if asked["power"]:
        world.rtc = None
        world.clock_ms = CLOCK_START_MS
    world.cause = asked["cause"]
    chip = Chip(world.image)
    vfs.mount(vfs.VfsLfs2(chip), ROOT)
    chip.part = asked["part"]
    chip.left = asked["cut"]
    sleep_ms = 0
    parts = None
    try:
        parts = main.make_parts()
        parts.hold_session = hold_session
        watched(parts.updater)
        main.cycle.run(parts)
    except Asleep as e:
        how, sleep_ms = "slept", e.args[0]
    except PowerCut:
        how = "cut"
    except SystemExit:
        how = "died"
    world.clock_ms += sleep_ms
    vfs.umount(ROOT)
    world.image = chip.data
    parts = None
    gc.collect()
    chip = Chip(world.image)
    vfs.mount(vfs.VfsLfs2(chip), ROOT)
    places = slots.Slots(Files, ROOT)
    state = main.Updater(Files, ROOT, None, None).state
    vfs.umount(ROOT)
    return "over", how, sleep_ms, state, [sha8.hex() for sha8 in places.known_bad]


def provisioned():
    """Flash as it is handed over: littlefs with the files of the board's folder."""
    chip = formatted(_BLOCKS)
    vfs.mount(vfs.VfsLfs2(chip), ROOT)
    folder = os.getenv("EDGEWISE_BOARD_DIR") + "/flash/"
    for name in os.listdir(folder):
        with open(folder + name, "rb") as source, open(ROOT + "/" + name, "wb") as target:
            target.write(source.read())
    vfs.umount(ROOT)
    return bytes(chip.data)


main.port.ROOT = ROOT
main.port.Board = Board
detector.time = BoardTime
world = World(provisioned())
kept = {}
while True:
    line = sys.stdin.readline()
    if not line:
        break
    asked = json.loads(line)
    if asked["do"] == "wake":
        tell(*wake(asked))
    elif asked["do"] == "keep":
        kept[asked["name"]] = (bytes(world.image), world.rtc, world.clock_ms)
        tell("kept")
    else:
        image, rtc, clock_ms = kept[asked["name"]]
        world = World(image)
        world.rtc, world.clock_ms = rtc, clock_ms
        tell("back")
