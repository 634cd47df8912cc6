"""Runs on MicroPython: a board whose flash is a littlefs in RAM, and the cloud that serves it artifacts.

A Board is started, woken and put to sleep as main.py does it, over a chip that can be cut and started again.
"""

import gc
import json
import os
import sys
from array import array

import vfs

from contract.wire import REASON_OK, UPDATE_DOWNLOAD
from device import signature, slots
from device.files import Files
from device.trust import Keys, Policy
from device.update import Updater

FOLDER = sys.argv[1]
ROOT = "/chip"
PROBE = array("i", (1, 2, 3))

with open(FOLDER + "/world.json") as _file:
    WORLD = json.load(_file)
OFFERS = WORLD["offers"]
KEYS = WORLD["keys"]


def wanted(name):
    """WANT's model for a published artifact."""
    offer = OFFERS[name]
    return (
        offer["name"],
        offer["version"],
        offer["sequence"],
        bytes.fromhex(offer["sha256"]),
        offer["size"],
        offer["format"],
        offer["arch"],
        bytes.fromhex(offer.get("leave", "")),
        offer.get("patch") and bytes.fromhex(offer["patch"]),
        offer.get("patch_size", 0),
        offer.get("patch_base") and bytes.fromhex(offer["patch_base"]),
    )


def sha8(name):
    return bytes.fromhex(OFFERS[name]["sha256"])[:8]


def artifact(name):
    with open(FOLDER + "/" + name + ".bin", "rb") as f:
        return f.read()


def patch(name):
    with open(FOLDER + "/" + name + ".patch", "rb") as f:
        return f.read()


def policy(**changes):
    own = {
        "arch": WORLD["arch"],
        "abi": WORLD["abi"],
        "formats": 1,
        "schema_hash": bytes.fromhex(WORLD["schema_hash"]),
        "trusted": KEYS,
        "revoked": (),
    }
    own.update(changes)
    keys = Keys(Files, ROOT, own.pop("trusted"), own.pop("revoked"))
    return Policy(keys=keys, **own)


class Cloud:
    """What the board is told and given: `want` is the name of an artifact or None, `serve` the one it really gets."""

    def __init__(self, want=None):
        self.version = 0
        self.want = None
        self.serve = None
        self.patch = b""
        self.reachable = True
        self.now_s = 0
        self.waits = REASON_OK  # for what downloads wait
        self.spoil = None  # (offset, data, total) -> (data, total): what an attacker makes of a piece
        if want:
            self.wish(want)

    def wish(self, name, serve=None):
        self.version += 1
        self.want = wanted(name) if name else None
        self.serve = artifact(serve or name) if name else None
        self.patch = patch(name) if name and self.want[8] else b""
        self.fetched = []  # (the patch, offset) of each piece


class Board:
    """One board; `rules`: what its policy has instead of the world's.

    `reports` are the UPDATE records it made, `runs` the sha8 of the model of each boot, None for SAFE.
    """

    def __init__(self, chip, rules=None):
        self.chip = chip
        self.rules = rules or {}
        self.reports = []
        self.runs = []
        self.slept = False
        self.updater = None
        self.model = None

    def boot(self):
        """Power comes, or sleep ends."""
        try:
            vfs.umount(ROOT)
        except OSError:
            pass
        vfs.mount(vfs.VfsLfs2(self.chip), ROOT)
        self.updater = Updater(Files, ROOT, policy(**self.rules), self._send)
        self.updater.start(self.slept)
        self.slept = False
        self.model = self.updater.load(True)
        self.runs.append(self.model.sha8 if self.model else None)

    def _send(self, state, reason, name, version, sha8, progress, detail):
        self.reports.append((state, reason, bytes(sha8), progress, detail))

    def session(self, cloud, pieces=1000):
        """Talks to the cloud as link and cycle do, for at most `pieces` pieces."""
        updater = self.updater
        if not cloud.reachable:
            updater.end_session(False)
            return
        updater.on_want(cloud.version, cloud.want)
        while updater.step(cloud.now_s):
            pass
        for _ in range(pieces):
            if updater.state == UPDATE_DOWNLOAD and updater.postpone(cloud.waits):
                break
            fetch = updater.next_fetch()
            if fetch is None:
                break
            self.piece(cloud, fetch)
        while updater.step(cloud.now_s):
            pass
        updater.end_session(True)

    def piece(self, cloud, fetch):
        """Answers one FETCH."""
        ident, offset, length = fetch
        whole = cloud.patch if ident == cloud.want[8] else cloud.serve
        cloud.fetched.append((whole is cloud.patch, offset))
        data = whole[offset : offset + length]
        total = len(whole)
        if cloud.spoil:
            data, total = cloud.spoil(offset, data, total)
        return self.updater.on_chunk(ident, offset, memoryview(data), total, cloud.now_s)

    def sleep(self, clean=True):
        self.updater.end_wake(clean)
        self.slept = True

    def wake(self, cloud, clean=True, pieces=1000):
        """A whole wake: boot, one score, a session, sleep. A model that raises is a wake that ended badly."""
        self.boot()
        try:
            if self.model:
                self.model.score(PROBE)
        except Exception:
            clean = False
        self.session(cloud, pieces)
        self.sleep(clean)

    def crash(self):
        """A wake that dies before it can say anything: panic, watchdog, power."""
        self.boot()

    def outcomes(self):
        """(state, reason) of each report."""
        return [(report[0], report[1]) for report in self.reports]


def install(board, name):
    """Brings a board from nothing to a committed model."""
    cloud = Cloud(name)
    for _ in range(8):
        board.wake(cloud)
    board.boot()
    if not board.model or board.model.sha8 != sha8(name) or board.updater.wants_session:
        raise AssertionError("%s was not installed: %r" % (name, board.reports))
    board.sleep()
    board.reports = []
    board.runs = []
    gc.collect()
    return cloud


def verify_once():
    """From now on no signature is verified twice over the very same bytes: that is most of a life."""
    verify, known = signature.verify, {}

    def remembered(*arguments):
        key = tuple([bytes(argument) for argument in arguments])
        if key not in known:
            known[key] = verify(*arguments)
        return known[key]

    signature.verify = remembered


def pointer():
    """The pointer as it is on the mounted chip."""
    return slots.Slots(Files, ROOT)


def folder_of(slot):
    return os.listdir(ROOT + "/models/" + "ab"[slot])
