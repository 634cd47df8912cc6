"""Runs on MicroPython: how a shadow model comes, scores and goes, one behaviour per check."""

import gc
import os

from ram_block import RamBlock, formatted

from beside import STRANGE, BesideBoard, Wishes, pointer_files
from checks import equal, run
from contract.wire import (
    REASON_BAD_DIGEST,
    REASON_BAD_SIGNATURE,
    REASON_FLASH,
    REASON_KNOWN_BAD,
    REASON_MISMATCH,
    REASON_NO_MEMORY,
    REASON_NO_SPACE,
    REASON_NOT_SERVED,
    REASON_OK,
    REASON_OLD_SEQUENCE,
    REASON_SCHEMA_MISMATCH,
    REASON_SELFTEST_FAILED,
    REASON_STALE_OFFER,
    REASON_TRIAL_FAILED,
    REASON_UNKNOWN_KEY,
    REASON_WRONG_CLASS,
    UPDATE_COMMIT,
    UPDATE_REFUSED,
    UPDATE_SHADOW,
    UPDATE_SHADOW_ENDED,
)
from world import PROBE, ROOT, Board, artifact, folder_of, install, pointer, sha8, wanted

_BLOCKS = 64
_FOLDER = ROOT + "/models/s"


def _flash_after(*names):
    board = Board(formatted(_BLOCKS))
    for name in names:
        install(board, name)
    return bytes(board.chip.data)


_V1 = _flash_after("v1")


def _with_shadow(name):
    """Flash of a board that runs v1 with a shadow."""
    board = BesideBoard(RamBlock(_BLOCKS, _V1))
    board.slept = True
    _live(board, Wishes(shadow=name), 3)
    equal(board.shadow.model.sha8, sha8(name))
    return bytes(board.chip.data)


def _board(flash=_V1, rules=None):
    board = BesideBoard(RamBlock(_BLOCKS, flash), rules)
    board.slept = True
    return board


def _live(board, cloud, wakes=4, probe=PROBE):
    for _ in range(wakes):
        board.wake(cloud, probe=probe)


def _ends(board, name, reason, cloud=None, probe=PROBE):
    """Wants a shadow that does not last: it is reported with its reason, and leaves nothing on flash."""
    cloud = cloud or Wishes(shadow=name)
    _live(board, cloud, 4, probe)
    equal(board.reports[-1][:3], (UPDATE_SHADOW_ENDED, reason, sha8(name)))
    equal(board.shadow.model, None)
    _is_empty()
    equal(board.runs[-1], sha8("v1"))
    return cloud


def _is_empty():
    try:
        equal(os.listdir(_FOLDER), [])
    except OSError:  # never made
        pass


def _copy(source, target):
    with open(source, "rb") as f:
        data = f.read()
    with open(target, "wb") as f:
        f.write(data)


def check_a_shadow_is_fetched_verified_and_scores_beside_the_active_model():
    board = _board()
    cloud = Wishes(shadow="v2")
    _live(board, cloud, 4)
    equal(board.outcomes(), [(UPDATE_SHADOW, REASON_OK)])
    equal(board.ran, [sha8("v2")] * 2)
    equal(board.said, [26.0, 26.0])
    equal(board.runs, [sha8("v1")] * 4)
    equal(board.model.score(PROBE), 16.0)


def check_nothing_that_happens_to_a_shadow_writes_the_pointer():
    board = _board()
    board.boot()
    before = pointer_files()
    cloud = Wishes(shadow="v2")
    _live(board, cloud)
    for name in ("crash", "broken", "late", None):
        cloud.wish_shadow(name)
        _live(board, cloud, 3, STRANGE)
        if name == "crash":
            for _ in range(4):
                board.crash()
            board.slept = True
    equal(pointer_files(), before)
    equal((pointer().sequence, pointer().known_bad), (5, []))


def check_a_shadow_goes_when_it_is_not_wanted_and_may_come_again():
    board = _board(_with_shadow("v2"))
    cloud = Wishes(version=200)
    _live(board, cloud, 2)
    equal(board.reports[-1][:3], (UPDATE_SHADOW_ENDED, REASON_OK, sha8("v2")))
    _is_empty()
    equal((board.shadow.model, board.shadow.held), (None, False))
    cloud.wish_shadow("v2")
    _live(board, cloud, 3)
    equal(board.ran[-1], sha8("v2"))


def check_another_shadow_takes_the_place_of_the_first():
    board = _board(_with_shadow("v2"))
    _live(board, Wishes(version=200, shadow="v3"), 4)
    equal(board.outcomes(), [(UPDATE_SHADOW_ENDED, REASON_OK), (UPDATE_SHADOW, REASON_OK)])
    equal((board.ran[-1], board.said[-1]), (sha8("v3"), 56.0))


def check_a_download_goes_on_where_it_was_cut_off():
    board = _board()
    cloud = Wishes(shadow="v3")
    for _ in range(6):
        board.wake(cloud, pieces=1)
    equal(cloud.shadow_fetched, [0, 4096, 8192])
    equal(board.shadow.model.sha8, sha8("v3"))


def check_a_cloud_that_sends_nothing_is_given_up():
    board = _board()
    cloud = Wishes(shadow="v3")
    board.wake(cloud, pieces=1)
    for _ in range(20):
        board.boot()
        board.shadow.on_want(cloud.version, wanted("v3"))
        board.shadow.next_fetch()
        board.shadow.end_session(True)
    equal(board.reports[-1][:2], (UPDATE_SHADOW_ENDED, REASON_NOT_SERVED))
    _is_empty()


def check_an_older_want_of_a_session_changes_nothing():
    board = _board(_with_shadow("v2"))
    board.boot()
    equal(board.shadow.on_want(300, wanted("v2")), REASON_OK)
    equal(board.shadow.on_want(299, None), REASON_STALE_OFFER)
    equal(board.shadow.model.sha8, sha8("v2"))


def check_three_crashes_in_a_row_end_a_shadow_for_good():
    board = _board(_with_shadow("crash"))
    for _ in range(5):
        board.crash()
    equal(board.ran, [sha8("crash")] * 3)
    equal(board.reports[-1][:3], (UPDATE_SHADOW_ENDED, REASON_TRIAL_FAILED, sha8("crash")))
    board.slept = True
    cloud = _ends(board, "crash", REASON_KNOWN_BAD, Wishes(version=200, shadow="crash"))
    cloud.wish_shadow("v2")
    _live(board, cloud)
    equal(board.ran[-1], sha8("v2"))


def check_a_clean_wake_forgives_what_was_before():
    board = _board(_with_shadow("v2"))
    cloud = Wishes(shadow="v2")
    for _ in range(4):
        board.crash()
        board.crash()
        board.wake(cloud)
        board.slept = True
    equal(board.shadow.model.sha8, sha8("v2"))


def check_a_board_that_dies_without_it_does_not_blame_the_shadow():
    board = _board(_with_shadow("v2"))
    for _ in range(9):
        board.slept = False
        board.boot()
    equal(board.shadow.model.sha8, sha8("v2"))


def check_a_shadow_that_fails_to_score_ends_for_good():
    board = _board(_with_shadow("late"))
    board.wake(Wishes(shadow="late"), probe=STRANGE)
    equal(board.reports[-1][:3], (UPDATE_SHADOW_ENDED, REASON_TRIAL_FAILED, sha8("late")))
    _ends(board, "late", REASON_KNOWN_BAD, Wishes(version=200, shadow="late"))


def check_a_shadow_that_fails_its_self_test_ends_for_good():
    board = _board()
    _ends(board, "broken", REASON_SELFTEST_FAILED)
    _ends(board, "broken", REASON_KNOWN_BAD, Wishes(version=200, shadow="broken"))


def check_two_models_that_do_not_fit_the_heap_are_refused_and_may_be_tried_again():
    board = _board()
    cloud = Wishes(shadow="v2")
    board.wake(cloud)
    board.boot()
    board.model = None
    gc.collect()
    ballast = []
    while gc.mem_free() > 24_000:
        ballast.append(bytearray(1000))
    board.shadow.step(0)
    state, reason, _, _, detail = board.reports[-1]
    equal((state, reason), (UPDATE_SHADOW_ENDED, REASON_NO_MEMORY))
    if not detail:
        raise AssertionError("no word on how much is missing")
    ballast = None
    gc.collect()
    board.slept = True
    cloud.wish_shadow("v2")
    _live(board, cloud)
    equal(board.shadow.model.sha8, sha8("v2"))


def check_a_shadow_without_room_is_refused_before_anything_is_fetched():
    board = BesideBoard(RamBlock(_BLOCKS, _V1))
    board.slept = True
    board.boot()
    room = os.statvfs(ROOT)
    with open(ROOT + "/ballast", "wb") as f:
        for _ in range(room[3] - 5):
            f.write(bytes(4096))
    cloud = Wishes(shadow="v3")
    _ends(board, "v3", REASON_NO_SPACE, cloud)
    equal(cloud.shadow_fetched, [])


def check_a_flash_that_refuses_ends_the_shadow_and_nothing_else():
    board = _board()
    board.boot()
    with open(ROOT + "/models/s", "wb") as f:  # where its folder should be
        f.write(b"x")
    board.shadow.on_want(200, wanted("v2"))
    fetch = board.shadow.next_fetch()
    try:
        board.shadow.on_chunk(fetch[0], 0, memoryview(artifact("v2")[:4096]), len(artifact("v2")), 0)
    except OSError:
        pass
    os.remove(ROOT + "/models/s")
    board.boot()
    equal(board.model.sha8, sha8("v1"))
    if board.reports:
        equal(board.reports[-1][:2], (UPDATE_SHADOW_ENDED, REASON_FLASH))


def check_an_update_goes_on_beside_a_shadow():
    board = _board(_with_shadow("v2"))
    cloud = Wishes(version=200, model="v3", shadow="v2")
    _live(board, cloud, 8)
    equal((board.runs[-1], board.ran[-1]), (sha8("v3"), sha8("v2")))
    equal(board.outcomes()[-1], (UPDATE_COMMIT, REASON_OK))
    equal(pointer().sequence, 7)


def check_a_shadow_rests_during_a_trial():
    board = _board(_with_shadow("v2"))
    cloud = Wishes(version=200, model="crash", shadow="v2")
    while not pointer().trial:
        board.wake(cloud)
    while pointer().trial:
        equal(board.shadow.rests, True)
        board.slept = False
        board.boot()
    equal(board.shadow.rests, False)
    equal((board.shadow.model.sha8, pointer().model.sha8), (sha8("v2"), sha8("v1")))


def check_a_shadow_that_becomes_the_active_model_ends():
    board = _board(_with_shadow("v2"))
    cloud = Wishes(version=200, model="v2", shadow="v2")
    _live(board, cloud, 8)
    equal(board.runs[-1], sha8("v2"))
    _is_empty()
    equal((UPDATE_SHADOW_ENDED, REASON_OK) in board.outcomes(), True)
    equal(board.shadow.on_want(201, wanted("v2")), REASON_MISMATCH)


# The role can not be exchanged


def check_what_is_signed_as_a_shadow_scores_and_never_decides():
    board = _board()
    cloud = Wishes(shadow="only_shadow")
    _live(board, cloud)
    equal(board.ran[-1], sha8("only_shadow"))
    cloud.version += 1
    cloud.want, cloud.serve = wanted("only_shadow"), artifact("only_shadow")
    _live(board, cloud, 6)
    equal((UPDATE_REFUSED, REASON_WRONG_CLASS) in board.outcomes(), True)
    equal(set(board.runs), {sha8("v1")})


def check_two_wishes_whose_roles_were_exchanged_make_no_shadow_decide():
    board = _board(_with_shadow("only_shadow"))
    cloud = Wishes(version=200, model="only_shadow", shadow="v2")
    _live(board, cloud, 8)
    equal(set(board.runs), {sha8("v1")})
    equal(board.ran[-1], sha8("v2"))


def check_a_class_changed_by_hand_breaks_the_signature():
    board = _board()
    cloud = Wishes(model="v2")
    data = artifact("only_shadow").replace(b"\xa5class\xa6shadow", b"\xa5class\xa5model")
    data = data[:8] + (int.from_bytes(data[8:10], "little") - 1).to_bytes(2, "little") + data[10:]
    cloud.serve = data
    cloud.want = wanted("only_shadow")[:4] + (len(data),) + wanted("only_shadow")[5:]
    _live(board, cloud, 3)
    equal(board.outcomes()[-1], (UPDATE_REFUSED, REASON_BAD_SIGNATURE))


def check_the_shadow_s_record_is_no_pointer_and_the_pointer_no_record_of_a_shadow():
    board = _board(_with_shadow("v2"))
    board.boot()
    for number in "01":
        _copy(ROOT + "/models/shadow.0", ROOT + "/models/pointer." + number)
    board.boot()
    equal(board.model, None)
    board = _board(_with_shadow("v2"))
    board.boot()
    for number in "01":
        _copy(ROOT + "/models/pointer.0", ROOT + "/models/shadow." + number)
    board.boot()
    equal((board.model.sha8, board.shadow.model), (sha8("v1"), None))


def check_files_moved_from_slot_to_slot_run_nowhere():
    board = _board(_with_shadow("v2"))
    board.boot()
    slot = pointer().folder(pointer().active)
    name = "slot_" + slot[-1] + ".mpy"
    _copy(_FOLDER + "/head", slot + "/head")
    _copy(_FOLDER + "/slot_s.mpy", slot + "/" + name)
    board.boot()
    equal(board.model, None)  # neither v2, nor anything else: v1 is gone
    equal((board.reports[-1][1]), REASON_BAD_DIGEST)
    board = _board(_with_shadow("v2"))
    board.boot()
    _copy(slot + "/head", _FOLDER + "/head")
    _copy(slot + "/" + name, _FOLDER + "/slot_s.mpy")
    board.boot()
    board.beside()
    equal(board.ran, [])
    equal(board.reports[-1][:2], (UPDATE_SHADOW_ENDED, REASON_BAD_DIGEST))


def check_a_payload_swapped_after_it_was_fetched_is_noticed():
    board = _board()
    cloud = Wishes(shadow="v2")
    board.boot()
    board.session(cloud)
    code = artifact("crash")
    with open(_FOLDER + "/slot_s.mpy", "wb") as f:
        f.write(code[-int.from_bytes(code[16:20], "little") :])
    board.shadow.step(0)
    equal(board.reports[-1][:2], (UPDATE_SHADOW_ENDED, REASON_BAD_DIGEST))
    _is_empty()


def check_a_shadow_needs_all_that_a_model_needs():
    _ends(_board(), "older", REASON_OLD_SEQUENCE)
    _ends(_board(rules={"trusted": {}}), "v2", REASON_UNKNOWN_KEY)
    board = _board()
    board.boot()
    board.shadow._policy.schema_hash = bytes(8)
    board.session(Wishes(shadow="v2"))
    equal(board.reports[-1][:2], (UPDATE_SHADOW_ENDED, REASON_SCHEMA_MISMATCH))
    cloud = Wishes(shadow="v2")
    cloud.spoil = lambda offset, data, total: (data[:200] + bytes([data[200] ^ 1]) + data[201:], total)
    _ends(_board(), "v2", REASON_BAD_SIGNATURE, cloud)


def check_a_shadow_leaves_the_other_slot_to_the_way_back():
    board = _board(_flash_after("v1", "v2"))
    _live(board, Wishes(version=200, shadow="v3"))
    equal(board.ran[-1], sha8("v3"))
    equal(len(folder_of(1 - pointer().active)), 2)
    equal(board.updater.previous().sha8, sha8("v1"))


run(globals())
