"""Runs on MicroPython: a board that queues and sends, a record of what it was promised, and the check of what is left.

`Claims` says, for any point in a recorded run, which records had been reported stored and not acknowledged: whatever
is cut at that point, they must be found.
"""

import struct

from model_world import Fault

from contract.wire import STREAMS
from device.outbox import Outbox
from device.records import Record

ROOT = "/outbox"
_FOREVER = 1 << 30  # an epoch later than all


class Board:
    """What wakes do with the outbox: records in and out.

    After a power loss a new epoch begins. `keeps_epoch`: RTC memory survived, as it does a watchdog reset; it had been
    stored before any record was committed, so no sequence number comes twice, but some may be skipped.
    """

    def __init__(self, fs, maker, cloud, random, keeps_epoch=False):
        self._fs = fs
        self._maker = maker
        self._cloud = cloud
        self._random = random
        record = Record(fs, "/epoch")
        known = record.load()
        self.epoch = struct.unpack("<I", known)[0] if known else 0
        if not (known and keeps_epoch):
            self.epoch += 1
            record.store(struct.pack("<I", self.epoch))
        self.wake()

    def wake(self):
        self.outbox = Outbox(self._fs, ROOT)
        self.outbox.open()

    def store(self, n_records):
        """The identities of so many new records, all of them reported stored."""
        batch = [self._maker.make(self.epoch, self._random) for _ in range(n_records)]
        for record in batch:
            self.outbox.append(*record)
        if not self.outbox.commit():
            raise Fault("commit() failed, and flash did not")
        return [record[:3] for record in batch]

    def send(self, max_frames=0):
        for record in self.outbox.pending(0, self.epoch, max_frames):
            self._cloud.take(record)

    def floors(self):
        return self.outbox.floors(self.epoch, self._maker.next_seq.get(self.epoch, [0] * len(STREAMS)))


def work(board, cloud, random, n_records, log, facts):
    """Stores `n_records` in groups of 1 to 6, now and then wakes anew or has a session; notes each promise in `facts`.

    A fact is (length of the log of the chip, identities stored, ACK vector or None), noted as commit() returns or as
    ack() is called.
    """
    while n_records:
        if random.below(3) == 0:
            board.wake()
        n = min(1 + random.below(6), n_records)
        n_records -= n
        stored = board.store(n)
        facts.append((len(log), stored, None))
        if random.below(3) == 0:
            board.send(1 + random.below(40))
            acks = cloud.acks()
            facts.append((len(log), (), acks))
            board.outbox.ack(acks)


class Claims:
    """`held`: identities that must be found on flash after the first `k` operations; advance() moves k upwards."""

    def __init__(self, facts, held=()):
        self._facts = facts
        self._next = 0
        self.held = {}
        for identity in held:
            self.held[identity] = True

    def advance(self, k):
        while self._next < len(self._facts) and self._facts[self._next][0] <= k:
            _, stored, acks = self._facts[self._next]
            self._next += 1
            for identity in stored:
                self.held[identity] = True
            if acks is not None:
                for identity in list(self.held):
                    if _below(identity, acks):
                        del self.held[identity]


def _below(identity, acks):
    stream, epoch, seq = identity
    for entry in acks:
        if entry[0] == epoch:
            return seq < entry[1 + STREAMS.index(stream)]
    return False


def verify(fs, maker, held):
    """Opens an outbox and reads all of it: every record in `held` is there, and nothing but what was made."""
    outbox = Outbox(fs, ROOT)
    outbox.open()
    found = {}
    for record in outbox.pending(0, _FOREVER):
        maker.check(record)
        found[record[:3]] = True
    _expect(held, found, outbox.dropped)


def drain(board, cloud, held):
    """Stores a few records more and sends everything: nothing may be left then, and nothing of `held` missing."""
    stored = list(held) + board.store(3) + board.store(2)
    board.send()
    board.outbox.ack(cloud.acks())
    while _waits_in_vain(cloud.acks(), board.floors()):
        before = cloud.acks()
        cloud.hello(board.floors())
        if cloud.acks() == before:
            raise Fault("a floor did not help the cloud on")
        board.outbox.ack(cloud.acks())
    for record in board.outbox.pending(0, board.epoch):
        raise Fault(f"still held after its ACK: stream {record[0]} epoch {record[1]} seq {record[2]}")
    _expect(stored, cloud.stored, board.outbox.dropped)


def _expect(identities, found, dropped):
    """Every identity is found but for those counted as dropped: here the oldest HEALTH records of many epochs."""
    missing = [0] * len(STREAMS)
    for identity in identities:
        if identity not in found:
            missing[STREAMS.index(identity[0])] += 1
            if missing[STREAMS.index(identity[0])] > dropped[STREAMS.index(identity[0])]:
                raise Fault(f"lost: stream {identity[0]} epoch {identity[1]} seq {identity[2]}")


def _waits_in_vain(acks, floors):
    """Whether the cloud expects a record that is held no longer: then the board must say HELLO."""
    for floor in floors:
        for entry in acks:
            if entry[0] == floor[0] and any(entry[i] < floor[i] for i in range(1, len(floor))):
                return True
    return False
