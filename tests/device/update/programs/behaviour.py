"""Runs on MicroPython: how an update goes, and how it goes wrong, one behaviour per check."""

import gc
import os

from ram_block import RamBlock, formatted

from checks import equal, run
from contract.wire import (
    REASON_BAD_DIGEST,
    REASON_BAD_PATCH,
    REASON_FLASH,
    REASON_KNOWN_BAD,
    REASON_LOAD_FAILED,
    REASON_LOW_BATTERY,
    REASON_NO_SPACE,
    REASON_NOT_NOW,
    REASON_NOT_SERVED,
    REASON_OK,
    REASON_OLD_SEQUENCE,
    REASON_SELFTEST_FAILED,
    REASON_STALE_OFFER,
    REASON_TRIAL_FAILED,
    UPDATE_COMMIT,
    UPDATE_DOWNLOAD,
    UPDATE_IDLE,
    UPDATE_REFUSED,
    UPDATE_ROLLBACK,
    UPDATE_TRIAL,
)
from device import admission, detector, patching
from device.files import Files
from world import PROBE, ROOT, Board, Cloud, artifact, folder_of, install, pointer, sha8

_BLOCKS = 64


def _flash_after(*names):
    board = Board(formatted(_BLOCKS))
    for name in names:
        install(board, name)
    return bytes(board.chip.data)


_V1 = _flash_after("v1")
_V1_V2 = _flash_after("v1", "v2")


def _board(flash=_V1):
    board = Board(RamBlock(_BLOCKS, flash))
    board.slept = True
    return board


def _cloud(name, version=100):
    cloud = Cloud()
    cloud.version = version
    cloud.wish(name)
    return cloud


def check_a_model_is_downloaded_tried_and_committed():
    board = _board()
    cloud = _cloud("v2")
    for _ in range(5):
        board.wake(cloud)
    equal(board.outcomes(), [(UPDATE_DOWNLOAD, 0), (UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)])
    equal(board.model.sha8, sha8("v2"))
    equal(board.model.score(PROBE), 26.0)
    equal(board.updater.sequence, 6)


def check_a_board_without_a_model_runs_none_until_the_first_one_is_installed():
    board = Board(formatted(_BLOCKS))
    board.wake(_cloud("v1"))
    board.wake(_cloud("v1"))
    equal(board.runs, [None, sha8("v1")])


def check_a_download_goes_on_where_it_stopped():
    board = _board()
    cloud = _cloud("v3")
    asked = []
    cloud.spoil = lambda offset, data, total: (asked.append((offset, len(data))), (data, total))[1]
    size = len(cloud.serve)
    while len(asked) * 4096 < size:
        board.slept = False  # the power went, too
        board.wake(cloud, pieces=1)
    for _ in range(4):
        board.wake(cloud)
    expected = [(offset, min(4096, size - offset)) for offset in range(0, size, 4096)]
    equal(asked, expected)
    equal(board.model.sha8, sha8("v3"))


def check_a_download_waits_and_says_so_once_and_goes_on_where_it_was():
    board = _board()
    cloud = _cloud("v3")
    board.wake(cloud, pieces=1)
    for reason in (REASON_LOW_BATTERY, REASON_NOT_NOW):
        cloud.waits = reason
        for slept in (True, False, True):
            board.slept = slept
            board.wake(cloud)
    for _ in range(25):  # waiting is no fault of the cloud's
        board.wake(cloud)
    cloud.waits = REASON_OK
    for _ in range(5):
        board.wake(cloud)
    waited = [(UPDATE_DOWNLOAD, REASON_LOW_BATTERY), (UPDATE_DOWNLOAD, REASON_NOT_NOW), (UPDATE_DOWNLOAD, 0)]
    equal(board.outcomes(), [(UPDATE_DOWNLOAD, 0)] + waited + [(UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)])
    equal([report[3] for report in board.reports[1:4]], [4096] * 3)
    equal([offset for _, offset in cloud.fetched], [0, 4096, 8192])
    equal(board.model.sha8, sha8("v3"))


def check_a_piece_not_asked_for_is_passed_over():
    board = _board()
    cloud = _cloud("v3")
    board.boot()
    board.updater.on_want(cloud.version, cloud.want)
    while board.updater.step(0):
        pass
    ident, offset, length = board.updater.next_fetch()
    data = cloud.serve
    for stale in ((ident, 4096, data[4096:8192]), (b"12345678", 0, data[:4096]), (ident, 1, data[1:4096])):
        equal(board.updater.on_chunk(stale[0], stale[1], stale[2], len(data), 0), REASON_OK)
        equal(board.updater.next_fetch(), (ident, 0, 4096))
    board.piece(cloud, (ident, offset, length))
    board.piece(cloud, (ident, offset, length))  # delivered twice
    equal(board.updater.next_fetch(), (ident, 4096, 4096))


def check_another_offer_ends_a_download():
    board = _board()
    cloud = _cloud("v3")
    board.wake(cloud, pieces=1)
    cloud.wish("v2")
    for _ in range(5):
        board.wake(cloud)
    equal(board.model.sha8, sha8("v2"))


def check_an_offer_of_what_runs_ends_a_download():
    board = _board()
    cloud = _cloud("v3")
    board.wake(cloud, pieces=1)
    cloud.wish("v1")
    board.wake(cloud)
    equal(board.updater.state, UPDATE_IDLE)
    equal(board.updater.wants_session, False)
    equal(board.model.sha8, sha8("v1"))


def check_no_offer_asks_for_nothing():
    board = _board()
    board.wake(_cloud(None))
    equal(board.reports, [])


def check_a_refused_offer_is_looked_at_again_only_in_a_newer_want():
    board = _board()
    cloud = _cloud("broken")
    board.wake(cloud)
    equal(board.outcomes(), [(UPDATE_DOWNLOAD, 0), (UPDATE_REFUSED, REASON_SELFTEST_FAILED)])
    for _ in range(3):
        board.wake(cloud)
    equal(len(board.reports), 2)
    equal(board.updater.on_want(cloud.version, cloud.want), REASON_SELFTEST_FAILED)
    cloud.wish("broken")
    board.wake(cloud)
    equal(len(board.reports), 4)
    equal(board.model.sha8, sha8("v1"))


def check_a_refused_download_leaves_no_file_behind():
    board = _board()
    board.wake(_cloud("broken"))
    equal(folder_of(1), [])


def check_going_back_to_the_held_model_needs_no_download():
    board = _board(_V1_V2)
    cloud = _cloud("v1")
    cloud.serve = None
    for _ in range(5):
        board.wake(cloud)
    equal(board.outcomes(), [(UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)])
    equal(board.model.sha8, sha8("v1"))
    equal(board.updater.sequence, 6)  # the counter never sinks


def check_a_held_model_that_decayed_is_downloaded():
    board = _board(_V1_V2)
    board.boot()
    _spoil("a", "slot_a.mpy")
    cloud = _cloud("v2")
    cloud.wish("v1")
    for _ in range(5):
        board.wake(cloud)
    # The counter stands at 6 after v2: what has to come from outside again may not be older.
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_OLD_SEQUENCE))
    equal(board.model.sha8, sha8("v2"))


def check_a_rollback_floor_closes_the_way_back():
    board = _board()
    cloud = _cloud("final")
    for _ in range(5):
        board.wake(cloud)
    cloud.wish("v1")
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_OLD_SEQUENCE))
    equal(board.model.sha8, sha8("final"))


def check_the_counter_rises_with_the_commit_and_not_before():
    board = _board()
    cloud = _cloud("v2")
    seen = []
    for _ in range(5):
        board.wake(cloud)
        seen.append((board.updater.state == UPDATE_COMMIT, board.updater.sequence))
    equal(seen[0], (False, 5))
    equal([sequence == (6 if committed else 5) for committed, sequence in seen], [True] * 5)
    cloud.wish("older")
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_OLD_SEQUENCE))


def check_a_signed_leave_lets_an_older_model_in_until_a_newer_one_is_committed():
    board = _board(_V1_V2)
    cloud = _cloud("allowed")  # sequence 3, leave for boards that have reached 6
    for _ in range(5):
        board.wake(cloud)
    equal(board.outcomes(), [(UPDATE_DOWNLOAD, 0), (UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)])
    equal(board.model.sha8, sha8("allowed"))
    equal(board.updater.sequence, 6)  # leave lowers no counter
    for name in ("older", "v1"):  # nor does it open the way to anything else
        cloud.wish(name)
        board.wake(cloud)
        equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_OLD_SEQUENCE))
    for name in ("v3", "final"):
        cloud.wish(name)
        for _ in range(5):
            board.wake(cloud)
        equal(board.model.sha8, sha8(name))
    cloud.wish("allowed")
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_OLD_SEQUENCE))


def check_a_trial_is_withdrawn_when_the_old_model_is_wanted_again():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)
    cloud.wish("v1")
    board.wake(cloud)
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_ROLLBACK, REASON_OK))
    equal(board.runs[-2:], [sha8("v2"), sha8("v1")])
    cloud.wish("v2")  # nothing was wrong with it
    for _ in range(5):
        board.wake(cloud)
    equal(board.model.sha8, sha8("v2"))


def check_another_offer_waits_until_the_trial_has_ended():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)
    cloud.wish("v3")
    for _ in range(10):
        board.wake(cloud)
    equal(
        [report[:3] for report in board.reports if report[0] == UPDATE_COMMIT],
        [(UPDATE_COMMIT, 0, sha8("v2")), (UPDATE_COMMIT, 0, sha8("v3"))],
    )


def check_three_boots_after_a_bad_end_take_a_model_back_for_ever():
    board = _board()
    cloud = _cloud("crash")
    board.wake(cloud)
    for _ in range(5):
        board.crash()
    equal(board.runs[1:], [sha8("crash")] * 3 + [sha8("v1")] * 2)
    equal(board.outcomes()[-1], (UPDATE_ROLLBACK, REASON_TRIAL_FAILED))
    cloud.wish("crash")
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_KNOWN_BAD))
    equal(board.model.sha8, sha8("v1"))


def check_three_wakes_that_end_in_an_error_take_a_model_back():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)
    cloud.reachable = False
    for _ in range(4):
        board.wake(cloud, clean=False)
    equal(board.runs[1:], [sha8("v2")] * 3 + [sha8("v1")])


def check_a_model_on_trial_that_finds_no_heap_is_taken_back():
    board = _board()
    board.wake(_cloud("v2"))
    load = detector.load

    def find_no_heap(*_arguments):
        raise MemoryError

    detector.load = find_no_heap
    try:
        for _ in range(3):
            try:
                board.boot()
            except MemoryError:
                board.sleep(clean=False)
    finally:
        detector.load = load
    board.boot()
    equal(board.model.sha8, sha8("v1"))


def check_clean_wakes_without_contact_commit_nothing():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)
    cloud.reachable = False
    for _ in range(71):
        board.wake(cloud)
    equal(board.updater.state, UPDATE_TRIAL)
    equal(board.updater.wants_session, True)
    cloud.reachable = True
    board.wake(cloud)
    equal(board.updater.state, UPDATE_COMMIT)


def check_a_model_that_never_reaches_the_cloud_is_taken_back():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)
    cloud.reachable = False
    for _ in range(72):
        board.wake(cloud)
    equal(board.updater.state, UPDATE_ROLLBACK)
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_ROLLBACK, REASON_TRIAL_FAILED))
    equal(board.model.sha8, sha8("v1"))


def check_contact_in_the_wake_that_armed_it_does_not_count():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)  # downloaded, armed and in contact, all with the old model loaded
    equal(board.updater.wants_session, True)


def check_a_board_that_never_sleeps_tries_a_model_too():
    board = _board()
    cloud = _cloud("v2")
    board.boot()
    for _ in range(6):
        board.session(cloud)
        board.updater.end_wake(True)
        if board.updater.switched:
            board.model = board.updater.load(False)
    equal(board.updater.state, UPDATE_COMMIT)
    equal(board.model.sha8, sha8("v2"))


def check_an_artifact_the_heap_has_no_room_for_is_refused():
    board = _board()

    def exhausted(*_arguments):
        raise MemoryError("memory allocation failed")

    check_flash, admission.check_flash = admission.check_flash, exhausted
    try:
        board.wake(_cloud("v2"))
    finally:
        admission.check_flash = check_flash
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_LOAD_FAILED))
    equal(board.model.sha8, sha8("v1"))


def _self_tested(stalls):
    """How the update to v2 ends when these of the self-test's measurements take too long."""

    class Stalling:
        count = 0

        @staticmethod
        def ticks_us():
            return 0

        @staticmethod
        def ticks_diff(_end, _start):
            Stalling.count += 1
            return 60000 if Stalling.count in stalls else 100

    board = _board()
    board.boot()
    kept, detector.time = detector.time, Stalling
    try:
        board.session(_cloud("v2"))
    finally:
        detector.time = kept
    return board.outcomes()[-1]


def check_one_stall_in_the_self_test_is_chance_and_two_are_the_model():
    for once in ((1,), (3,), (1, 3)):
        equal(_self_tested(once), (UPDATE_TRIAL, 0))
    equal(_self_tested((2, 3)), (UPDATE_REFUSED, REASON_SELFTEST_FAILED))


def check_a_boot_that_dies_in_the_self_test_is_not_repeated_for_ever():
    board = _board()
    cloud = _cloud("import_exits")
    died = 0
    for _ in range(6):
        try:
            board.wake(cloud)
        except SystemExit:
            died += 1
    equal(died, 3)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_SELFTEST_FAILED))
    cloud.wish("import_exits")
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_KNOWN_BAD))
    equal(board.model.sha8, sha8("v1"))


def check_an_active_model_that_decays_gives_way_to_the_previous_and_then_to_none():
    board = _board(_V1_V2)
    board.boot()
    _spoil("b", "slot_b.mpy")
    board.boot()
    equal(board.model.sha8, sha8("v1"))
    equal(board.outcomes(), [(UPDATE_ROLLBACK, REASON_BAD_DIGEST)])
    _spoil("a", "head")
    board.boot()
    equal(board.model, None)
    cloud = _cloud("v2")  # the cloud still wants it
    for _ in range(6):
        board.wake(cloud)
    equal(board.model.sha8, sha8("v2"))


def check_features_that_changed_leave_the_board_without_a_model():
    board = _board()
    board.rules = {"schema_hash": b"anothers"}
    board.boot()
    equal(board.model, None)


def check_a_lost_update_record_loses_no_trial():
    board = _board()
    cloud = _cloud("v2")
    board.wake(cloud)
    os.remove(ROOT + "/update.0")
    os.remove(ROOT + "/update.1")
    for _ in range(4):
        board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_COMMIT, 0))
    equal(board.reports[-1][2], sha8("v2"))


def check_a_lost_pointer_leaves_no_model_rather_than_an_unverified_one():
    board = _board()
    board.boot()
    os.remove(ROOT + "/models/pointer.0")
    os.remove(ROOT + "/models/pointer.1")
    board.boot()
    equal(board.model, None)


def check_known_bad_digests_are_bounded_and_the_newest_kept():
    board = _board()
    board.boot()
    places = pointer()
    for number in range(40):
        places.condemn(b"bad%05d" % number)
    places.condemn(b"bad00030")
    equal(pointer().known_bad[-1], b"bad00030")
    equal(len(pointer().known_bad), 16)
    equal(len(set(pointer().known_bad)), 16)


def check_an_artifact_that_does_not_fit_is_refused_before_it_is_fetched():
    board = _board()
    board.boot()
    with open(ROOT + "/ballast", "wb") as f:
        for _ in range(48):
            f.write(bytes(4096))
    board.wake(_cloud("v3"))
    equal(board.outcomes(), [(UPDATE_REFUSED, REASON_NO_SPACE)])


def check_flash_that_refuses_a_piece_ends_the_download():
    board = _board()
    cloud = _cloud("v3")
    board.wake(cloud, pieces=1)
    board.boot()
    board.updater.on_want(cloud.version, cloud.want)
    fetch = board.updater.next_fetch()
    real = board.updater._fs

    class Refusing:
        ilistdir, remove, stat, mkdir, statvfs = real.ilistdir, real.remove, real.stat, real.mkdir, real.statvfs

        @staticmethod
        def open(path, mode="r"):
            if mode == "ab":
                raise OSError(5)
            return open(path, mode)

    board.updater._record.download._fs = Refusing
    equal(board.piece(cloud, fetch), REASON_FLASH)
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_FLASH))
    equal(board.model.sha8, sha8("v1"))


def check_flash_that_refuses_everything_changes_nothing():
    board = _board()
    board.boot()
    board.chip.refuse = 5
    cloud = _cloud("v2")
    try:
        board.session(cloud)
        raise AssertionError("flash was written")
    except OSError:
        pass
    board.chip.refuse = 0
    for _ in range(5):
        board.wake(cloud)
    equal(board.model.sha8, sha8("v2"))


def check_an_artifact_the_cloud_has_not_is_given_up():
    board = _board()
    cloud = _cloud("v2")
    cloud.spoil = lambda offset, data, total: (b"", 0)
    board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_NOT_SERVED))


def check_a_cloud_that_sends_no_pieces_is_given_up_after_twenty_sessions():
    board = _board()
    cloud = _cloud("v2")
    for _ in range(21):
        board.boot()
        board.updater.on_want(cloud.version, cloud.want)
        while board.updater.step(0):
            pass
        board.updater.next_fetch()
        board.updater.end_session(True)
        board.sleep()
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_NOT_SERVED))


def check_an_older_want_in_a_session_is_stale_and_a_forged_newest_locks_nothing_out():
    board = _board()
    board.boot()
    cloud = _cloud("v2")
    equal(board.updater.on_want(0xFFFFFFFF, cloud.want), REASON_OK)
    equal(board.updater.on_want(cloud.version, cloud.want), REASON_STALE_OFFER)
    board.updater.end_session(True)
    equal(board.updater.on_want(cloud.version, cloud.want), REASON_OK)


def check_expiry_is_held_against_the_time_when_there_is_one():
    board = _board()
    cloud = _cloud("mortal")
    cloud.now_s = 1_999_999_999
    for _ in range(5):
        board.wake(cloud)
    equal(board.model.sha8, sha8("mortal"))
    board = _board()
    cloud = _cloud("mortal")
    for _ in range(5):
        board.wake(cloud)
    equal(board.model.sha8, sha8("mortal"))


def _patched(name):
    """A board that runs v1 and is offered the artifact of "patched" with one of several patches."""
    board = _board()
    cloud = _cloud(name)
    for _ in range(6):
        board.wake(cloud)
    equal(board.outcomes()[-1], (UPDATE_COMMIT, 0))
    equal(board.model.sha8, sha8("patched"))
    equal(board.model.score(PROBE), 31.0)
    equal(sorted(os.listdir(ROOT + "/models")), ["a", "b", "pointer.0", "pointer.1"])
    return board, cloud


def _took_nothing_but_a_patch(board, cloud):
    equal(board.outcomes(), [(UPDATE_DOWNLOAD, 0), (UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)])
    equal(cloud.fetched, [(True, 0)])
    with open(ROOT + "/models/b/head", "rb") as f:
        head = f.read()
    with open(ROOT + "/models/b/slot_b.mpy", "rb") as f:
        equal(head + f.read(), artifact("patched"))


def check_a_patch_makes_the_artifact_and_nothing_else_is_fetched():
    board, cloud = _patched("patched")
    _took_nothing_but_a_patch(board, cloud)


def check_a_patch_for_another_base_is_not_fetched():
    _, cloud = _patched("no_base")
    equal([patch for patch, _ in cloud.fetched], [False])


def check_a_patch_that_is_no_use_gives_way_to_the_whole_artifact():
    for name in ("torn", "another", "noise"):
        board, cloud = _patched(name)
        equal(cloud.fetched, [(True, 0), (False, 0)])
        expected = [(UPDATE_DOWNLOAD, 0), (UPDATE_DOWNLOAD, REASON_BAD_PATCH), (UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)]
        equal(board.outcomes(), expected)


def check_a_patch_the_cloud_has_not_gives_way_to_the_whole_artifact():
    board = _board()
    cloud = _cloud("patched")
    cloud.patch = b""
    for _ in range(6):
        board.wake(cloud)
    equal(cloud.fetched, [(True, 0), (False, 0)])
    equal(board.model.sha8, sha8("patched"))


def check_a_base_that_decayed_costs_a_patch_and_nothing_else():
    board = _board()
    cloud = _cloud("patched")
    board.boot()
    with open(ROOT + "/models/a/slot_a.mpy", "rb") as f:
        data = bytearray(f.read())
    data[-30] ^= 1
    with open(ROOT + "/models/a/slot_a.mpy", "wb") as f:
        f.write(data)
    for _ in range(6):
        board.session(cloud)
        board.sleep()
        board.updater = None
        board.slept = True
        board.boot()
    equal(board.model.sha8, sha8("patched"))


def check_another_wish_ends_a_patch():
    board = _board()
    cloud = _cloud("patched")
    board.boot()
    board.updater.on_want(cloud.version, cloud.want)
    while board.updater.step(0):
        pass
    board.piece(cloud, board.updater.next_fetch())
    cloud.wish("v3")
    for _ in range(6):
        board.wake(cloud)
    equal(board.model.sha8, sha8("v3"))
    equal(sorted(os.listdir(ROOT + "/models")), ["a", "b", "pointer.0", "pointer.1"])


def check_an_artifact_is_fetched_deflated_whatever_the_board_runs():
    board, cloud = _patched("deflated")
    _took_nothing_but_a_patch(board, cloud)
    board = Board(formatted(_BLOCKS))
    cloud = _cloud("deflated")
    board.wake(cloud)
    board.wake(cloud)
    equal(board.runs, [None, sha8("patched")])
    equal(cloud.fetched, [(True, 0)])


def check_what_does_not_inflate_to_the_artifact_gives_way_to_the_whole_one():
    for name in ("short", "long", "bomb", "other", "torn", "noise", "turned"):
        board, cloud = _patched("deflated_" + name)
        equal(cloud.fetched, [(True, 0), (False, 0)])
        expected = [(UPDATE_DOWNLOAD, 0), (UPDATE_DOWNLOAD, REASON_BAD_PATCH), (UPDATE_TRIAL, 0), (UPDATE_COMMIT, 0)]
        equal(board.outcomes(), expected)


def check_a_board_that_cannot_inflate_fetches_the_artifact_as_it_is():
    kept, patching.deflate = patching.deflate, None
    try:
        _, cloud = _patched("deflated")
    finally:
        patching.deflate = kept
    equal(cloud.fetched, [(False, 0)])


def check_a_heap_without_room_for_the_inflater_costs_a_patch_and_nothing_else():
    inflate = patching.inflate

    def crowded(stream, write):
        taken = [None] * 20_000
        try:
            for i in range(len(taken)):
                taken[i] = bytearray(512)
            raise AssertionError("the heap is not full")
        except MemoryError:
            pass
        for i in range(0, len(taken), 2):  # holes of 512 bytes: its tables have no place in them, all else has
            taken[i] = None
        gc.collect()
        inflate(stream, write)

    patching.inflate = crowded
    try:
        _, cloud = _patched("deflated")
    finally:
        patching.inflate = inflate
    equal(cloud.fetched, [(True, 0), (False, 0)])


def check_flash_that_has_no_room_for_both_gets_the_artifact_as_it_is():
    board = _board()
    board.boot()
    spare = ROOT + "/models/b"
    kept, size = admission._RESERVE_BYTES, len(artifact("patched"))
    admission._RESERVE_BYTES = kept + admission.room(Files, ROOT, spare) - size
    try:
        _, cloud = _patched("deflated")
    finally:
        admission._RESERVE_BYTES = kept
    equal(cloud.fetched, [(False, 0)])


def check_flash_that_fills_up_meanwhile_costs_a_patch_and_nothing_else():
    write = patching.PatchDownload.write

    def full(_self, _data):
        raise OSError(28)

    patching.PatchDownload.write = full
    try:
        _, cloud = _patched("deflated")
    finally:
        patching.PatchDownload.write = write
    equal(cloud.fetched, [(True, 0), (False, 0)])


def _spoil(slot, name):
    """Changes one byte of a file in a slot."""
    path = ROOT + "/models/" + slot + "/" + name
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data[-1] ^= 1
    with open(path, "wb") as f:
        f.write(data)


def check_what_lies_in_a_slot_is_the_artifact_byte_for_byte():
    board = _board()
    board.boot()
    with open(ROOT + "/models/a/head", "rb") as f:
        head = f.read()
    with open(ROOT + "/models/a/slot_a.mpy", "rb") as f:
        equal(head + f.read(), artifact("v1"))


run(globals())
