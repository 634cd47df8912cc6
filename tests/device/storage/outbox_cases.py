"""Runs on MicroPython: what device/outbox.py promises, case by case, on a littlefs in RAM."""

import errno
import gc

from cases import run, same
from ram_block import formatted

from contract.wire import EVENT, HEALTH, QUERY, READINGS, STREAMS, UPDATE
from device import outbox_segment
from device.outbox import HEALTH_SEGMENTS, MAX_SEGMENTS, Outbox

BLOCKS = 12
ROOT = "/outbox"


def opened(fs, max_segments=MAX_SEGMENTS):
    outbox = Outbox(fs, ROOT, max_segments)
    outbox.open()
    return outbox


def stored(outbox, stream, seqs, epoch=1, n_bytes=40, ttl_ms=0):
    """Appends one record per number and commits; t_ms is 1000 times the number."""
    for seq in seqs:
        outbox.append(stream, epoch, seq, 1, 1000 * seq, frame(stream, epoch, seq, n_bytes), ttl_ms)
    return outbox.commit()


def frame(stream, epoch, seq, n_bytes=40):
    return (f"{stream}.{epoch}.{seq}." * n_bytes).encode()[:n_bytes]


def held(outbox, now_ms=0, epoch=1):
    """[(stream, epoch, seq)..] as pending() gives them, each frame checked."""
    found = []
    for stream, its_epoch, seq, _, _, data in outbox.pending(now_ms, epoch):
        same(data, frame(stream, its_epoch, seq, len(data)))
        found.append((stream, its_epoch, seq))
    return found


def seqs(outbox, stream, now_ms=0, epoch=1):
    return [entry[2] for entry in held(outbox, now_ms, epoch) if entry[0] == stream]


def ack(readings=0, event=0, query=0, update=0, health=0, epoch=1):
    return [[epoch, event, query, update, health, readings]]


def files(fs):
    return sorted([entry[0] for entry in fs.ilistdir(ROOT) if outbox_segment.parse_name(entry[0])])


# Order


def the_most_important_stream_comes_first():
    outbox = opened(formatted(BLOCKS).mount())
    for stream in (READINGS, HEALTH, EVENT, UPDATE, QUERY):
        stored(outbox, stream, (0, 1))
    same([entry[0] for entry in held(outbox)], [stream for stream in STREAMS for _ in range(2)])


def old_epochs_come_first_within_a_stream():
    fs = formatted(BLOCKS).mount()
    for epoch in (1, 2, 3):
        stored(opened(fs), READINGS, (0, 1), epoch)
    same([entry[1:] for entry in held(opened(fs))], [(e, s) for e in (1, 2, 3) for s in (0, 1)])


def no_more_frames_come_than_asked_for():
    outbox = opened(formatted(BLOCKS).mount())
    stored(outbox, READINGS, range(10))
    same(len(list(outbox.pending(0, 1, 3))), 3)


# Storing


def a_record_comes_back_whole_after_opening_again():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    outbox.append(READINGS, 7, 1 << 31, 240, (1 << 48) - 1, b"\x00\xff" * 900)
    same(outbox.commit(), True)
    same(list(opened(fs).pending(0, 7)), [(READINGS, 7, 1 << 31, 240, (1 << 48) - 1, b"\x00\xff" * 900)])


def what_is_not_committed_is_not_stored():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    outbox.append(EVENT, 1, 0, 1, 0, b"x")
    same(list(outbox.pending(0, 1)), [])
    same(list(opened(fs).pending(0, 1)), [])


def a_group_of_records_costs_one_erase():
    chip = formatted(BLOCKS)
    outbox = opened(chip.mount())
    stored(outbox, READINGS, (0,))
    before = chip.erases
    stored(outbox, READINGS, range(1, 21))
    same(chip.erases - before, 1)


def more_than_the_buffer_holds_is_written_on_the_way():
    fs = formatted(BLOCKS).mount()
    same(stored(opened(fs), READINGS, range(30), n_bytes=500), True)
    same(seqs(opened(fs), READINGS), list(range(30)))


def a_frame_larger_than_a_segment_is_refused():
    outbox = opened(formatted(BLOCKS).mount())
    same(outbox.append(EVENT, 1, 0, 1, 0, bytes(outbox_segment.MAX_FRAME_BYTES + 1)), False)
    same(outbox.append(EVENT, 1, 0, 1, 0, b""), False)
    same(outbox.append(EVENT, 1, 0, 1, 0, bytes(outbox_segment.MAX_FRAME_BYTES)), True)
    same(outbox.commit(), True)
    same([len(record[5]) for record in outbox.pending(0, 1)], [outbox_segment.MAX_FRAME_BYTES])


def the_next_number_is_behind_what_is_held():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    outbox.append(READINGS, 3, 100, 50, 0, b"rows")
    outbox.commit()
    same(opened(fs).next_seq(READINGS, 3), 150)
    same(opened(fs).next_seq(READINGS, 4), 0)
    same(opened(fs).next_seq(EVENT, 3), 0)


# Acknowledgement


def an_acknowledged_record_is_gone_after_opening_again():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    stored(outbox, READINGS, range(10))
    outbox.ack(ack(readings=4))
    same(seqs(outbox, READINGS), list(range(4, 10)))
    same(seqs(opened(fs), READINGS), list(range(4, 10)))


def a_segment_goes_when_all_of_it_is_acknowledged():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    stored(outbox, READINGS, range(30), n_bytes=500)
    n_files = len(files(fs))
    outbox.ack(ack(readings=20))
    same(len(files(fs)) < n_files, True)
    outbox.ack(ack(readings=30))
    same(files(fs), [])


def an_acknowledgement_of_all_writes_no_cursor():
    chip = formatted(BLOCKS)
    outbox = opened(chip.mount())
    stored(outbox, EVENT, (0,))
    before = chip.program_bytes
    outbox.ack(ack(event=1))
    same(chip.program_bytes - before, 32)  # the removal alone


def an_older_acknowledgement_brings_nothing_back():
    outbox = opened(formatted(BLOCKS).mount())
    stored(outbox, READINGS, range(10))
    outbox.ack(ack(readings=6))
    outbox.ack(ack(readings=2))
    same(seqs(outbox, READINGS), [6, 7, 8, 9])


def an_acknowledgement_beyond_all_that_exists_does_not_cover_what_is_made_later():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    stored(outbox, EVENT, (0, 1))
    stored(outbox, READINGS, (0,))
    outbox.ack(ack(event=1000000))
    stored(outbox, EVENT, (2, 3))
    same(seqs(outbox, EVENT), [2, 3])
    same(seqs(opened(fs), EVENT), [2, 3])


def an_acknowledgement_inside_a_frame_keeps_the_frame():
    outbox = opened(formatted(BLOCKS).mount())
    outbox.append(READINGS, 1, 0, 60, 0, b"a")
    outbox.append(READINGS, 1, 60, 60, 0, b"b")
    outbox.commit()
    outbox.ack(ack(readings=90))
    same([record[2] for record in outbox.pending(0, 1)], [60])


def an_acknowledgement_of_another_epoch_frees_nothing():
    outbox = opened(formatted(BLOCKS).mount())
    stored(outbox, READINGS, (0, 1), epoch=2)
    outbox.ack(ack(readings=2, epoch=1) + ack(readings=2, epoch=3))
    same(seqs(outbox, READINGS), [0, 1])


def sending_goes_on_while_records_come_and_are_acknowledged():
    outbox = opened(formatted(BLOCKS).mount())
    stored(outbox, READINGS, range(20), n_bytes=500)
    found = []
    for record in outbox.pending(0, 1):
        found.append(record[2])
        if record[2] == 3:
            stored(outbox, EVENT, (0,))
        if record[2] == 9:
            outbox.ack(ack(readings=8))
    same(found, list(range(20)))
    same(seqs(outbox, READINGS), list(range(8, 20)))
    same(seqs(outbox, EVENT), [0])


def a_record_stored_twice_is_freed_once():
    """As after a crash between storing the ring's frame on flash and trimming the ring."""
    outbox = opened(formatted(BLOCKS).mount())
    stored(outbox, READINGS, (0, 1))
    stored(outbox, READINGS, (1, 2))
    same(seqs(outbox, READINGS), [0, 1, 1, 2])
    outbox.ack(ack(readings=3))
    same(held(outbox), [])


# Time to live


def an_expired_record_is_not_sent_and_is_counted():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    stored(outbox, QUERY, (0, 1, 2), ttl_ms=5000)  # made at 0, 1000 and 2000 ms
    same(seqs(outbox, QUERY, now_ms=5000), [0, 1, 2])
    same(seqs(outbox, QUERY, now_ms=6001), [2])
    same(outbox.dropped, [0, 2, 0, 0, 0])
    same(outbox.floors(1, [0, 3, 0, 0, 0]), [[1, 0, 2, 0, 0, 0]])
    again = opened(fs)
    same(again.dropped, [0, 2, 0, 0, 0])
    same(seqs(again, QUERY, now_ms=0), [2])


def the_last_expired_record_takes_its_segment_along():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    stored(outbox, QUERY, (0, 1), ttl_ms=5000)
    same(held(outbox, now_ms=9000), [])
    same(files(fs), [])
    same(outbox.floors(2, [0] * 5)[0], [1, 0, 2, 0, 0, 0])


def a_record_of_an_old_epoch_expires_by_the_age_of_the_new_one():
    outbox = opened(formatted(BLOCKS).mount())
    stored(outbox, QUERY, (900,), epoch=1, ttl_ms=5000)
    same(seqs(outbox, QUERY, now_ms=4000, epoch=2), [900])
    same(seqs(outbox, QUERY, now_ms=5001, epoch=2), [])


def an_expired_record_behind_one_that_is_not_waits_for_it():
    outbox = opened(formatted(BLOCKS).mount())
    outbox.append(EVENT, 1, 0, 1, 0, b"for ever")
    outbox.append(EVENT, 1, 1, 1, 0, b"short", 1000)
    outbox.commit()
    same([record[2] for record in outbox.pending(9000, 1)], [0])
    same(outbox.dropped, [0] * 5)
    outbox.ack(ack(event=1))
    same(list(outbox.pending(9000, 1)), [])
    same(outbox.dropped, [1, 0, 0, 0, 0])


# Bounds


def the_oldest_readings_go_first_and_are_counted():
    fs = formatted(24).mount()
    outbox = opened(fs, max_segments=6)
    stored(outbox, EVENT, (0,))
    stored(outbox, READINGS, range(60), n_bytes=500)
    same(len(files(fs)), 6)
    left = seqs(outbox, READINGS)
    same(left, list(range(60 - len(left), 60)))
    same(outbox.dropped, [0, 0, 0, 0, 60 - len(left)])
    same(outbox.floors(1, [1, 0, 0, 0, 60]), [[1, 0, 0, 0, 0, 60 - len(left)]])
    again = opened(fs, max_segments=6)
    same(again.dropped, [0, 0, 0, 0, 60 - len(left)])
    same(seqs(again, EVENT), [0])


def a_less_important_record_never_displaces_a_more_important_one():
    fs = formatted(24).mount()
    outbox = opened(fs, max_segments=4)
    stored(outbox, EVENT, range(28), n_bytes=500)
    same(len(files(fs)), 4)
    same(stored(outbox, READINGS, (0, 1)), False)
    same(outbox.unstored, [(READINGS, 1, 0, 1), (READINGS, 1, 1, 1)])
    same(outbox.dropped, [0] * 5)
    same(seqs(outbox, EVENT), list(range(28)))


def an_important_record_displaces_the_least_important():
    outbox = opened(formatted(24).mount(), max_segments=4)
    stored(outbox, HEALTH, (0,))
    stored(outbox, READINGS, range(21), n_bytes=500)
    same(stored(outbox, EVENT, (0,)), True)
    same(outbox.dropped, [0, 0, 0, 0, 7])
    same(stored(outbox, EVENT, range(1, 60), n_bytes=500), True)
    same(seqs(outbox, READINGS), [])
    same(seqs(outbox, HEALTH), [])
    same(outbox.dropped[3:], [1, 21])
    same(seqs(outbox, EVENT), list(range(60 - len(seqs(outbox, EVENT)), 60)))


def the_newest_health_records_are_enough():
    fs = formatted(24).mount()
    outbox = opened(fs)
    stored(outbox, HEALTH, range(200), n_bytes=120)
    left = seqs(outbox, HEALTH)
    same(len(files(fs)), HEALTH_SEGMENTS)
    same(left, list(range(200 - len(left), 200)))
    same(28 <= len(left) <= 57, True)
    same(outbox.dropped, [0, 0, 0, 200 - len(left), 0])


def a_drop_of_an_old_epoch_is_told_until_the_cloud_knows():
    fs = formatted(24).mount()
    outbox = opened(fs, max_segments=2)
    stored(outbox, READINGS, range(7), epoch=1, n_bytes=500)
    stored(outbox, READINGS, range(14), epoch=2, n_bytes=500)
    again = opened(fs, max_segments=2)
    same(again.floors(2, [0, 0, 0, 0, 14]), [[1, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 0]])
    again.ack(ack(readings=3, epoch=1))
    same(again.floors(2, [0, 0, 0, 0, 14])[0], [1, 0, 0, 0, 0, 7])
    again.ack(ack(readings=7, epoch=1))
    same(opened(fs, max_segments=2).floors(2, [0, 0, 0, 0, 14]), [[2, 0, 0, 0, 0, 0]])


def no_more_than_eight_epochs_are_told():
    fs = formatted(24).mount()
    for epoch in range(1, 12):
        outbox = opened(fs, max_segments=3)
        stored(outbox, READINGS, (0, 1), epoch)
    same(outbox.dropped[-1], 16)
    floors = opened(fs, max_segments=3).floors(11, [0, 0, 0, 0, 2])
    same([floor[0] for floor in floors], [4, 5, 6, 7, 8, 9, 10, 11])
    same(floors[0], [4, 0, 0, 0, 0, 2])
    same(floors[-1], [11, 0, 0, 0, 0, 0])


def what_is_given_up_elsewhere_is_counted():
    fs = formatted(BLOCKS).mount()
    opened(fs).count_dropped(READINGS, 64)
    same(opened(fs).dropped, [0, 0, 0, 0, 64])


def the_floor_of_an_empty_stream_is_what_comes_next():
    outbox = opened(formatted(BLOCKS).mount())
    same(outbox.floors(3, [5, 4, 3, 2, 1]), [[3, 5, 4, 3, 2, 1]])


# Flash that is full or fails


def a_full_disk_costs_the_oldest_readings():
    chip = formatted(BLOCKS)
    fs = chip.mount()
    outbox = opened(fs)
    stored(outbox, READINGS, range(21), n_bytes=500)
    fill(fs)
    same(stored(outbox, EVENT, (0,), n_bytes=500), True)
    same(seqs(opened(fs), EVENT), [0])
    same(outbox.dropped[-1] > 0, True)
    same(outbox.dropped[-1] + len(seqs(outbox, READINGS)), 21)


def a_disk_full_of_other_things_is_reported():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    others = fill(fs)
    same(stored(outbox, EVENT, (0,), n_bytes=500), False)
    same(outbox.unstored, [(EVENT, 1, 0, 1)])
    same(outbox.write_failures > 0, True)
    fs.remove(others[0])
    same(stored(outbox, EVENT, (0,), n_bytes=500), True)
    same(seqs(opened(fs), EVENT), [0])


def fill(fs):
    """Leaves no free block; the names of the files that take them."""
    names = []
    try:
        while True:
            names.append(f"/other{len(names)}")
            with fs.open(names[-1], "wb") as f:
                f.write(bytes(4000))
    except OSError as e:
        same(e.errno, 28)  # ENOSPC, which MicroPython's errno leaves out
    return names


def a_refused_write_is_reported_and_harms_nothing_else():
    chip = formatted(BLOCKS)
    outbox = opened(chip.mount())
    stored(outbox, EVENT, (0, 1))
    chip.refuse = errno.EIO
    same(stored(outbox, EVENT, (2, 3)), False)
    same(outbox.unstored, [(EVENT, 1, 2, 1), (EVENT, 1, 3, 1)])
    same(outbox.write_failures, 2)
    chip.refuse = 0
    same(stored(outbox, EVENT, (2, 3)), True)
    same(outbox.unstored, [])
    same(seqs(opened(chip.mount()), EVENT), [0, 1, 2, 3])


def an_acknowledgement_that_flash_refuses_is_repeated():
    chip = formatted(BLOCKS)
    outbox = opened(chip.mount())
    stored(outbox, EVENT, (0, 1))
    chip.refuse = errno.EIO
    outbox.ack(ack(event=2))
    same(outbox.write_failures, 1)
    chip.refuse = 0
    same(seqs(opened(chip.mount()), EVENT), [0, 1])
    outbox.ack(ack(event=2))
    same(held(opened(chip.mount())), [])


class Unreadable:
    """A file system on which files of one name cannot be opened for reading."""

    def __init__(self, fs, name):
        self._name = name
        self.mkdir = fs.mkdir
        self.ilistdir = fs.ilistdir
        self.remove = fs.remove
        self._open = fs.open

    def open(self, path, mode):
        if mode == "rb" and path.endswith(self._name):
            raise OSError(errno.EIO)
        return self._open(path, mode)


def a_segment_that_cannot_be_read_now_is_kept():
    fs = formatted(BLOCKS).mount()
    outbox = opened(fs)
    stored(outbox, READINGS, range(14), n_bytes=500)
    bad = opened(Unreadable(fs, files(fs)[0]))
    same(seqs(bad, READINGS), list(range(7, 14)))
    bad.ack(ack(readings=14))
    same(seqs(opened(fs), READINGS), list(range(7)))


def a_segment_that_cannot_be_read_is_dropped_when_room_is_needed():
    fs = formatted(BLOCKS).mount()
    stored(opened(fs), READINGS, range(14), n_bytes=500)
    bad = opened(Unreadable(fs, files(fs)[0]), max_segments=2)
    same(stored(bad, EVENT, (0,)), True)
    same(bad.damaged_segments, 1)
    same(seqs(opened(fs), READINGS), list(range(7, 14)))


# Damage


def nothing_is_appended_behind_garbage():
    fs = formatted(BLOCKS).mount()
    stored(opened(fs), EVENT, (0, 1))
    name = files(fs)[0]
    with fs.open(ROOT + "/" + name, "ab") as f:
        f.write(b"torn")
    outbox = opened(fs)
    stored(outbox, EVENT, (2,))
    same(len(files(fs)), 2)
    same(seqs(opened(fs), EVENT), [0, 1, 2])
    outbox.ack(ack(event=3))
    same(files(fs), [])
    same(outbox.damaged_segments, 1)


def an_empty_segment_is_passed_and_removed():
    fs = formatted(BLOCKS).mount()
    opened(fs)
    with fs.open(ROOT + "/" + outbox_segment.file_name(0, 4, 1), "wb"):
        pass
    outbox = opened(fs)
    stored(outbox, EVENT, (0,))
    same(seqs(opened(fs), EVENT), [0])
    outbox.ack([])
    same(len(files(fs)), 1)
    same(outbox.damaged_segments, 0)


def no_flipped_bit_is_accepted():
    fs = formatted(BLOCKS).mount()
    stored(opened(fs), EVENT, range(4), n_bytes=20)
    path = ROOT + "/" + files(fs)[0]
    with fs.open(path, "rb") as f:
        sound = f.read(4096)
    lost = 0
    for bit in range(8 * len(sound)):
        bad = bytearray(sound)
        bad[bit // 8] ^= 1 << bit % 8
        with fs.open(path, "wb") as f:
            f.write(bad)
        found = held(opened(fs))  # which compares every frame
        same(found, [(EVENT, 1, seq) for seq in range(len(found))])
        lost += 4 - len(found)
    return {"flips": 8 * len(sound), "records lost": lost, "wrong records": 0}


def a_segment_under_another_name_is_not_believed():
    fs = formatted(BLOCKS).mount()
    stored(opened(fs), EVENT, (0, 1), epoch=1)
    name = files(fs)[0]
    for other in ((1, 0, 1), (0, 1, 1), (0, 0, 2)):  # of another stream, number, epoch
        fs.rename(ROOT + "/" + name, ROOT + "/" + outbox_segment.file_name(*other))
        same(held(opened(fs)), [])
        fs.rename(ROOT + "/" + outbox_segment.file_name(*other), ROOT + "/" + name)
    same(len(held(opened(fs))), 2)


def other_files_in_the_directory_are_left_alone():
    fs = formatted(BLOCKS).mount()
    opened(fs)
    for name in ("x", "r", "e00000001", "e0000000g.1", "e00000001.", "README"):
        with fs.open(ROOT + "/" + name, "wb") as f:
            f.write(b"mine")
    outbox = opened(fs)
    same(held(outbox), [])
    outbox.ack(ack(event=9))
    same(len(list(fs.ilistdir(ROOT))), 6)


# Memory


def a_full_outbox_takes_little_more_memory_than_an_empty_one():
    fs = formatted(MAX_SEGMENTS + 8).mount()
    outbox = opened(fs)
    gc.collect()
    empty = gc.mem_free()
    for first in range(0, 28 * MAX_SEGMENTS, 28):
        stored(outbox, READINGS, range(first, first + 28), n_bytes=120)
    n_segments = len(files(fs))
    outbox = None
    gc.collect()
    outbox = opened(fs)
    gc.collect()
    opened_free = gc.mem_free()
    records = 0
    for _ in outbox.pending(0, 1):
        records += 1
    gc.collect()
    used = max(empty - opened_free, empty - gc.mem_free())
    same(used < 12000, True)
    return {"segments": n_segments, "records": records, "bytes more than empty": used}


run(globals())
