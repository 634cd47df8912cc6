"""Runs on MicroPython: what device/rtc_state.py and rtc_ring.py promise, case by case."""

import binascii
import errno
import os
import struct
from array import array

from cases import raises, run, same
from model_world import Random, key_of
from torn_files import TornFiles

from contract import delta
from contract.wire import EVENT, HEALTH, MAX_CHANNELS, READINGS, STREAMS
from device import rtc_layout, rtc_migrate
from device.files import remove_if_there
from device.outbox import Outbox
from device.rtc_ring import Ring
from device.rtc_state import MIGRATED, OK, REBUILT, RtcState

RANK = STREAMS.index(READINGS)
# A rebuild begins with zeros, whatever was refused, and takes ten times as long as refusing: one in so many is made.
REBUILD_EACH = 21


class Board:
    """RTC memory and a clock; `memory` is what a reset leaves."""

    root = ""

    def __init__(self, memory=b""):
        self.memory = memory
        self.clock_ms = 1 << 41

    def now_ms(self):
        return self.clock_ms

    def rtc_read_into(self, buf):
        buf[: len(self.memory)] = self.memory
        return len(self.memory)

    def rtc_write(self, buf):
        self.memory = bytes(buf)


class NoFlash:
    """A file system on which nothing can be opened, nor seen."""

    def stat(self, path):
        raise OSError(errno.EIO)

    def open(self, path, mode):
        raise OSError(errno.EIO)


def fresh(fs=None):
    """(board, state) after a cold start."""
    board = Board()
    state = RtcState(board, fs or TornFiles())
    same(state.load(), REBUILT)
    return board, state


def woken(board, fs):
    """The state at the next wake, which must find the memory whole."""
    state = RtcState(board, fs)
    same(state.load(), OK)
    return state


def used(fs):
    """(board, state, rows pushed) with every field set to something and rows in the ring, stored."""
    board, state = fresh(fs)
    for name, _, form in rtc_layout.FIELDS:
        if name[:5] in ("magic", "crc", "layou", "epoch", "ring_", "tail_", "last_") or name in ("cols", "next_seq"):
            continue
        size = struct.calcsize("<" + form)
        if form[-1] == "s":
            setattr(state, name, bytes(range(size)))
        elif isinstance(getattr(state, name), array):
            for index in range(len(getattr(state, name))):
                getattr(state, name)[index] = index + 1
        else:
            setattr(state, name, 100 + size)
    rows = smooth_rows(70, 3)
    for t_ms, values in rows:
        state.push_row(t_ms, values)
    state.take_seq(EVENT)
    state.store()
    return board, state, rows


def smooth_rows(n, cols, noise=8, seed=1):
    """[(t_ms, values)..]: a slow wave with `noise` counts (standard deviation) of bell-shaped noise, every 60 s."""
    random = Random(seed)
    rows = []
    level = [2000 + 100 * channel for channel in range(cols)]
    for index in range(n):
        values = array("i", bytes(4 * cols))
        for channel in range(cols):
            level[channel] += 12 if (index + 9 * channel) % 120 < 60 else -12
            values[channel] = level[channel] + (sum([random.below(2048) for _ in range(12)]) - 12282) * noise // 2048
        rows.append((60000 * index, values))
    return rows


def rows_of(frames):
    """[(seq, t_ms, values)..] of sealed frames, in order."""
    found = []
    for seq, t_ms, rows, cols, first, body in frames:
        offsets, values = delta.decode(rows, cols, first, body)
        for row in range(rows):
            found.append((seq + row, t_ms + offsets[row], list(values[row * cols : (row + 1) * cols])))
    return found


def numbered(rows, first=0):
    return [(first + index, t_ms, list(values)) for index, (t_ms, values) in enumerate(rows)]


# What is remembered


def every_field_survives_deep_sleep():
    fs = TornFiles()
    board, state, rows = used(fs)
    again = woken(board, fs)
    for name, _, _ in rtc_layout.FIELDS:
        if name != "crc":
            same((name, getattr(again, name)), (name, getattr(state, name)))
    same(rows_of(again.seal()), numbered(rows))


def fields_lie_side_by_side_and_leave_the_ring_alone():
    for fields in (rtc_layout.FIELDS, rtc_migrate.FIELDS_3, rtc_migrate.FIELDS_1):
        end = 0
        for name, at, form in fields:
            same((name, at), (name, end))
            end = at + struct.calcsize("<" + form)
        same(end <= (rtc_layout.RING_AT if fields is rtc_layout.FIELDS else rtc_migrate.RING_AT_3), True)


def a_sequence_number_is_given_out_once():
    fs = TornFiles()
    board, state = fresh(fs)
    same([state.take_seq(EVENT), state.take_seq(EVENT), state.take_seq(HEALTH)], [0, 1, 0])
    state.store()
    same(woken(board, fs).take_seq(EVENT), 2)


# Torn, foreign and older memory


def rebuilds(memory, fs):
    """Loads what must not be believed; the state that came of it."""
    state = RtcState(Board(memory), fs)
    same(state.load(), REBUILT)
    same((state.wakes, list(state.next_seq), state.seal()), (0, [0] * len(STREAMS), []))
    return state


def no_flipped_bit_is_believed():
    fs = TornFiles()
    board, state, _ = used(fs)
    sound = board.memory
    epoch = state.epoch
    bad = bytearray(sound)
    refusing = RtcState(Board(bad), fs)
    refusing._rebuild = nothing
    for bit in range(8 * len(sound)):
        bad[bit // 8] ^= 1 << bit % 8
        if bit % REBUILD_EACH:
            same(refusing.load(), REBUILT)
        else:
            epoch += 1
            same(rebuilds(bad, fs).epoch, epoch)
        bad[bit // 8] = sound[bit // 8]
    return {"flips": 8 * len(sound), "wrong records": 0, "crashes": 0}


def no_cut_memory_is_believed():
    fs = TornFiles()
    board, _, _ = used(fs)
    for n_bytes in range(rtc_layout.RTC_BYTES):
        rebuilds(board.memory[:n_bytes], fs)
    return {"truncations": rtc_layout.RTC_BYTES, "wrong records": 0, "crashes": 0}


def no_random_memory_is_believed():
    """Half of the fills begin with the magic number and layout version of real memory, so that the CRC decides."""
    pool = bytearray(os.urandom(1 << 16))
    board = Board(bytearray(rtc_layout.RTC_BYTES))
    state = RtcState(board, NoFlash())
    rebuild = state._rebuild
    view = memoryview(board.memory)
    fills = 100_000
    for fill in range(fills):
        state._rebuild = nothing if fill % REBUILD_EACH else rebuild
        at = fill * 31 % (len(pool) - rtc_layout.RTC_BYTES)
        if at < 31:
            pool = bytearray(os.urandom(1 << 16))
        view[:] = memoryview(pool)[at : at + rtc_layout.RTC_BYTES]
        if fill % 2:
            view[:4] = rtc_layout.MAGIC
            view[8] = rtc_layout.LAYOUT
        same(state.load(), REBUILT)
    same(state.seal(), [])
    return {"random fills": fills, "wrong records": 0, "crashes": 0}


def nothing(_first_epoch):
    pass


def a_load_that_finds_no_memory_leaves_what_is_there():
    fs = TornFiles()
    board, _, _ = used(fs)
    kept = board.memory

    class Full(Board):
        def rtc_read_into(self, buf):
            raise MemoryError

    full = Full(kept)
    state = RtcState(full, fs)
    raises(MemoryError, state.load)
    state.store()
    same(full.memory, kept)


def a_torn_write_is_the_old_state_or_the_new_or_a_new_epoch():
    fs = TornFiles()
    board, state, rows = used(fs)
    old = board.memory
    state.push_row(60000 * 70, rows[0][1])
    state.store()
    new = board.memory
    epoch = state.epoch
    whole = 0
    for n_bytes in range(rtc_layout.RTC_BYTES + 1):
        torn = new[:n_bytes] + old[n_bytes:]
        if torn in (old, new):
            same(RtcState(Board(torn), fs).load(), OK)
            whole += 1
        else:
            epoch += 1
            same(rebuilds(torn, fs).epoch, epoch)
    return {"tears": rtc_layout.RTC_BYTES + 1, "found whole": whole}


def signed(memory):
    """The memory with the CRC its bytes should have."""
    memory = bytearray(memory)
    struct.pack_into("<I", memory, 4, binascii.crc32(memoryview(memory)[8:]))
    return memory


def as_older(fields, state, ring, layout, other=()):
    """Memory in an older layout with the fields' values in `state`, unless `other` has one, and the ring's bytes."""
    memory = bytearray(rtc_layout.RTC_BYTES)
    memory[rtc_migrate.RING_AT_3 : rtc_migrate.RING_AT_3 + len(ring)] = ring
    values = {"layout": layout}
    values.update(other)
    for name, at, form in fields:
        value = values.get(name, getattr(state, name, 0))
        if isinstance(value, (list, array)):
            struct.pack_into("<" + form, memory, at, *value)
        else:
            struct.pack_into("<" + form, memory, at, value)
    return signed(memory)


def migrated(memory, fs):
    """(board, state) at the first wake with this firmware; a second wake finds the same in the present layout."""
    board = Board(memory)
    again = RtcState(board, fs)
    same(again.load(), MIGRATED)
    again.store()
    after = woken(board, fs)
    for name, _, _ in rtc_layout.FIELDS:
        if name != "crc":
            same((name, getattr(after, name)), (name, getattr(again, name)))
    return board, after


NO_PROFILE = (bytes(8), [0] * 8, 0, [0] * 24)


def profile_of(state):
    return (state.profile_model, list(state.profile_scores), state.profile_from, list(state.profile_features))


def held(board, state):
    """What of the ring's area is in use."""
    return board.memory[rtc_layout.RING_AT :][: state.ring_bytes + state.tail_bytes]


def layout_1_is_migrated():
    fs = TornFiles()
    board, state, rows = used(fs)
    other = {"tokens": 7, "backoff_level": 3, "trial_sha8": bytes(8)}
    _, again = migrated(as_older(rtc_migrate.FIELDS_1, state, held(board, state), 1, other), fs)
    for name, _, _ in rtc_migrate.FIELDS_1:
        if hasattr(state, name) and name not in ("crc", "layout", "generation"):
            same((name, getattr(again, name)), (name, getattr(state, name)))
    same((again.tokens_milli, again.link_quality, list(again.scores)), (7000, 0, [0] * 16))
    same(profile_of(again), NO_PROFILE)
    same(rows_of(again.seal()), numbered(rows))


def layouts_2_and_3_are_migrated():
    for layout in (2, 3):
        fs = TornFiles()
        board, state, rows = used(fs)
        memory = as_older(rtc_migrate.FIELDS_3, state, held(board, state), layout)
        new = ()
        if layout == 2:
            struct.pack_into("<5I", memory, 196, 7, 0, 0, 0, 250)  # drop counts, where the routes are now
            new = ("routes", "asked")
        _, again = migrated(signed(memory), fs)
        for name, _, _ in rtc_migrate.FIELDS_3:
            if name not in ("crc", "layout", "generation") + new:
                same((name, getattr(again, name)), (name, getattr(state, name)))
        if layout == 2:
            same((list(again.routes), again.asked), ([0] * 8, 0))
        same(profile_of(again), NO_PROFILE)
        same(rows_of(again.seal()), numbered(rows))


def filled_in_layout_3(fs, rows):
    """(memory, state) of a board of layout 3 that pushed rows until its ring was full."""
    _, state = fresh(fs)
    area = bytearray(rtc_layout.RTC_BYTES - rtc_migrate.RING_AT_3)
    state.ring = Ring(state, memoryview(area))
    n = 1
    while not state.push_row(*rows[n - 1]):
        n += 1
    return as_older(rtc_migrate.FIELDS_3, state, area, 3), state, n


def a_full_ring_of_layout_3_gives_up_its_oldest_frames():
    given_up = {}
    for cols in (1, 8, 16):
        fs = TornFiles()
        rows = smooth_rows(2400 if cols == 1 else 400, cols)
        memory, _, n = filled_in_layout_3(fs, rows)
        _, again = migrated(memory, fs)
        dropped = again.ring_dropped
        same((dropped <= 64, again.ring_seq), (True, dropped))
        same(rows_of(again.seal()), numbered(rows)[dropped:n])
        same(again.ring_dropped, dropped)
        given_up[f"{cols} channels, of {n} rows"] = dropped
    same(max(given_up.values()) > 0, True)
    return given_up


def a_tail_of_layout_3_that_is_too_long_is_given_up():
    """Rows that nothing compresses fill the old ring before they are 8, or are sealed into frames that leave."""
    random = Random(3)
    fs = TornFiles()
    rows = [(60000 * index, [wide(random, 32) for _ in range(16)]) for index in range(40)]
    memory, state, n = filled_in_layout_3(fs, rows)
    _, again = migrated(memory, fs)
    same(again.ring_dropped > 0, True)
    same(rows_of(again.seal()), numbered(rows)[again.ring_dropped : n])
    # As one tail; no firmware leaves it so, its counts agree all the same.
    state.ring_frames = state.ring_bytes = 0
    state.ring_seq = 0
    state.tail_rows = state.next_seq[RANK] = 15
    state.tail_bytes = 1500
    _, again = migrated(as_older(rtc_migrate.FIELDS_3, state, bytes(1500), 3), fs)
    same((again.ring_dropped, again.ring_seq, again.seal()), (15, 15, []))
    # A tail of no rows is none.
    state.tail_rows = state.next_seq[RANK] = 0
    rebuilds(as_older(rtc_migrate.FIELDS_3, state, bytes(1500), 3), fs)


def no_damage_to_an_older_layout_is_believed():
    """Every bit of the header flipped, of the ring every 61st; cut at every 16th byte."""
    fs = TornFiles()
    board, state, _ = used(fs)
    older = as_older(rtc_migrate.FIELDS_3, state, held(board, state), 3)
    header = 8 * rtc_migrate.RING_AT_3
    flips = list(range(header)) + list(range(header, 8 * len(older), 61))
    for bit in flips:
        bad = bytearray(older)
        bad[bit // 8] ^= 1 << bit % 8
        rebuilds(bad, NoFlash())
    for n_bytes in range(0, rtc_layout.RTC_BYTES, 16):
        rebuilds(older[:n_bytes], NoFlash())
    return {"flips": len(flips), "truncations": rtc_layout.RTC_BYTES // 16, "wrong records": 0, "crashes": 0}


def an_unknown_layout_is_rebuilt():
    fs = TornFiles()
    board, _, _ = used(fs)
    for version in (0, rtc_layout.LAYOUT + 1, 255):
        memory = bytearray(board.memory)
        memory[8] = version
        rebuilds(signed(memory), fs)


def counts_that_contradict_each_other_are_rebuilt():
    """A CRC says that bytes are as they were written, not that the program that wrote them was right."""
    fs = TornFiles()
    board, _, _ = used(fs)
    fields = {name: at for name, at, _ in rtc_layout.FIELDS}
    for name in ("ring_seq", "ring_frames", "ring_bytes", "tail_bytes", "tail_rows", "cols"):
        memory = bytearray(board.memory)
        memory[fields[name]] ^= 0x55
        memory[fields[name] + 1] ^= 0x0F if name in ("ring_bytes", "tail_bytes") else 0
        same((name, RtcState(Board(signed(memory)), fs).load()), (name, REBUILT))
        memory[8:9] = b"\x03"
        same((name, RtcState(Board(signed(memory)), fs).load()), (name, REBUILT))


# The epoch


def every_cold_start_has_its_own_epoch():
    fs = TornFiles()
    same([fresh(fs)[1].epoch for _ in range(5)], [1, 2, 3, 4, 5])


def the_epoch_is_on_flash_before_anything_is_named_after_it():
    fs = TornFiles()
    fs.log = log = []
    _, state = fresh(fs)
    same(len(log) > 0, True)
    same(RtcState(Board(), fs.copy()).load(), REBUILT)
    for cut in range(len(log)):
        left = TornFiles()
        for operation in log[:cut]:
            left.apply(operation)
        same(fresh(left)[1].epoch >= state.epoch, True)


def an_epoch_begins_where_config_says():
    board = Board()
    state = RtcState(board, TornFiles())
    state.load(58)
    same(state.epoch, 58)


def an_epoch_that_flash_refuses_leaps():
    epochs = {}
    for _ in range(200):
        state = RtcState(Board(), NoFlash())
        state.load()
        epochs[state.epoch] = True
        same(state.epoch_stored, False)
    same(len(epochs) > 190, True)


def an_epoch_that_flash_has_lost_leaps():
    epochs = {}
    for _ in range(200):
        fs = TornFiles()
        fresh(fs)
        fs.open("/outbox/0", "wb")
        for slot in "01":
            remove_if_there(fs, "/epoch." + slot)
        state = RtcState(Board(), fs)
        state.load(3)
        same(state.epoch > 3, True)
        same(fresh(fs)[1].epoch, state.epoch + 1)
        epochs[state.epoch] = True
    same(len(epochs) > 190, True)


def rows_that_never_left_move_to_a_raised_epoch():
    fs = TornFiles()
    board, state = fresh(fs)
    rows = smooth_rows(150, 2)
    for t_ms, values in rows[:100]:
        state.push_row(t_ms, values)
    state.seal()
    state.trim(state.ring_seq + 64)
    for t_ms, values in rows[100:]:
        state.push_row(t_ms, values)
    state.raise_epoch(57)
    again = woken(board, fs)
    same((again.epoch, list(again.next_seq)), (58, [0, 0, 0, 0, 86]))
    same(rows_of(again.seal()), numbered(rows[64:]))
    same(fresh(fs)[1].epoch, 59)


# The ring


def rows_come_back_as_they_went_in():
    """1 to 16 channels, values of every size, and a wake after every few rows."""
    random = Random(5)
    total = 0
    for cols in range(1, MAX_CHANNELS + 1):
        for width in (1, 8, 20, 32):
            fs = TornFiles()
            board, state = fresh(fs)
            pushed = []
            t_ms = 0
            full = False
            while not full:
                t_ms += random.below(100000)
                values = array("i", [wide(random, width) for _ in range(cols)])
                pushed.append((t_ms, values))
                full = state.push_row(t_ms, values)
                if random.below(4) == 0:
                    state.store()
                    state = woken(board, fs)
                if len(pushed) == 400:
                    break
            same(state.ring_dropped, 0)
            same(rows_of(state.seal()), numbered(pushed))
            same(state.ring_dropped, 0)  # sealing the last rows has found room
            total += len(pushed)
    return {"rows": total, "differing": 0}


def wide(random, width):
    number = random.below(1 << 16) << 16 | random.below(1 << 16)
    return (number & (1 << width) - 1) - (1 << width - 1)


def two_hundred_readings_of_eight_channels_fit():
    """Random noise of 8 counts on every channel, which is 5 bits of entropy: real sensors are rarely worse."""
    fitting = {}
    for cols, more_than_fit in ((1, 2400), (8, 400), (16, 200)):
        for noise in (2, 8, 16):
            _, state = fresh()
            rows = smooth_rows(more_than_fit, cols, noise)
            n = 1
            while not state.push_row(*rows[n - 1]):
                n += 1
            same(rows_of(state.seal()), numbered(rows[:n]))
            fitting[f"{cols} channels, noise {noise}"] = n
    same(fitting["8 channels, noise 8"] >= 200, True)
    return fitting


def a_full_ring_drops_its_oldest_frame_and_counts():
    _, state = fresh()
    rows = smooth_rows(900, 8)
    for t_ms, values in rows:
        state.push_row(t_ms, values)
    held = rows_of(state.seal())
    same(state.ring_dropped > 0, True)
    same(held, numbered(rows)[state.ring_dropped :])
    same(state.ring_seq, state.ring_dropped)


def a_sealed_frame_never_changes():
    _, state = fresh()
    seen = {}
    for index, (t_ms, values) in enumerate(smooth_rows(600, 3)):
        if state.push_row(t_ms, values):
            state.seal()
            state.trim(state.next_seq[RANK])
        frames = state.seal() if index % 37 == 0 else state.ring.frames()
        for frame in frames:
            content = (frame[1], frame[2], bytes(frame[4]), bytes(frame[5]))
            same(seen.setdefault(frame[0], content), content)
    return {"frames": len(seen)}


def a_clock_set_back_and_a_long_gap_begin_a_frame():
    _, state = fresh()
    rows = [(1000, [1]), (2000, [2]), (500, [3]), (600, [4]), (600 + (1 << 33), [5]), ((1 << 48) - 1, [6])]
    for t_ms, values in rows:
        state.push_row(t_ms, values)
    frames = state.seal()
    same([frame[2] for frame in frames], [2, 2, 1, 1])
    same(rows_of(frames), numbered(rows))


def a_time_that_no_frame_can_carry_is_held_to_one_that_it_can():
    _, state = fresh()
    state.push_row(-5000, [1])
    state.push_row(1 << 50, [2])
    same(rows_of(state.seal()), [(0, 0, [1]), (1, (1 << 48) - 1, [2])])


def trimming_forgets_whole_frames_only():
    _, state = fresh()
    rows = smooth_rows(192, 2)
    for t_ms, values in rows:
        state.push_row(t_ms, values)
    same([frame[0] for frame in state.seal()], [0, 64, 128])
    state.trim(127)
    same([frame[0] for frame in state.seal()], [64, 128])
    state.trim(0)
    same(rows_of(state.seal()), numbered(rows)[64:])
    state.trim(1000000)
    same((state.seal(), state.ring_seq, state.next_seq[RANK]), ([], 192, 192))


def rows_of_another_width_wait_until_the_ring_is_empty():
    _, state = fresh()
    state.push_row(0, [1, 2])
    raises(ValueError, state.push_row, 1, [1, 2, 3])
    raises(ValueError, state.push_row, 1, [])
    state.seal()
    state.trim(1)
    state.push_row(1, [1, 2, 3])
    same(rows_of(state.seal()), [(1, 1, [1, 2, 3])])
    state.trim(2)
    raises(ValueError, state.push_row, 1, [0] * 17)


# Crashes


class Crash(Exception):
    """The board is reset here: RAM is gone, RTC memory is as of the last store."""


def no_crash_gives_two_records_one_identity():
    """Pushes, seals, commits and trims as the firmware does, reset at a random one of its steps, 2,000 times.

    Whatever was seen outside the program under an identity, on flash or by the cloud, never differs; every record that
    commit() reported stored is on flash until the cloud has it.
    """
    fs = TornFiles()
    board, _ = fresh(fs)
    random = Random(11)
    seen = {}
    promised = {}
    lives = 2000
    for life in range(lives):
        try:
            one_life(board, fs, random, seen, promised, life)
        except Crash:
            pass
        if life % 8 == 0:
            outbox = Outbox(fs, "/outbox")
            outbox.open()
            found = note(outbox.pending(0, 1 << 30), seen)
            for identity in promised:
                same((identity, identity in found), (identity, True))
            promised.clear()
            outbox.ack([[epoch] + [1 << 31] * len(STREAMS) for epoch in range(1, life + 3)])
    return {"resets": lives, "identities": len(seen), "lost": 0, "with two contents": 0}


def one_life(board, fs, random, seen, promised, life):
    def step():
        """A point at which the board may be reset."""
        if random.below(12) == 0:
            raise Crash

    state = RtcState(board, fs)
    if random.below(40) == 0:
        board.memory = b""
    state.load()
    outbox = Outbox(fs, "/outbox")
    outbox.open()
    state.reconcile(outbox)
    for _ in range(random.below(3)):
        for _ in range(random.below(9)):
            state.push_row(life * 1000, [life, random.below(1 << 16)])
        step()
        batch = some_records(state, random, life)
        step()
        state.store()
        step()
        if random.below(2):  # straight to the cloud
            note(batch, seen)
            step()
        for record in batch:
            outbox.append(*record)
        outbox.commit()
        for record in batch:
            promised[record[:3]] = True
        note(outbox.pending(0, state.epoch), seen)
        step()
        for record in batch:
            if record[0] == READINGS:
                state.trim(record[2] + record[3])
        state.store()
        step()


def some_records(state, random, life):
    """Now and then an event, now and then all readings, as arguments of Outbox.append()."""
    batch = []
    if random.below(3) == 0:
        seq = state.take_seq(EVENT)
        batch.append((EVENT, state.epoch, seq, 1, 0, b"event %d %d" % (life, seq)))
    if random.below(3) == 0:
        for seq, t_ms, rows, _, first, body in state.seal():
            batch.append((READINGS, state.epoch, seq, rows, t_ms, bytes(first) + bytes(body)))
    return batch


def note(records, seen):
    """Everything seen under an identity is the same each time; the identities."""
    found = {}
    for stream, epoch, seq, count, t_ms, frame in records:
        found[(stream, epoch, seq)] = True
        # A row's number is its identity: two frames may not both name it.
        for number in range(seq, seq + count):
            thing = (seq, count, t_ms, frame)
            same(seen.setdefault(key_of(stream, epoch, number), thing), thing)
    return found


run(globals())
