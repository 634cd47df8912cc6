"""The configuration of a board: its keys, and how the cloud's document and the board's become one.

Two writers change a configuration: the cloud, and now and then someone at the board. Each counts its own changes, and
the two counters together are a version vector (config_version, local_version): WANT carries the cloud's document with
the board's counter as far as the cloud has taken it in, HELLO the board's with the cloud's counter as far as the board
has. A document that knows all the other knows replaces it. When each has something the other has not, every key is
merged by its own rule. Both sides run this file, so both arrive at the same values and list the same conflicts.
"""

from contract.wire import MAX_CHANNELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Vector = tuple[int, int]  # config_version, local_version
    Conflict = tuple[str, Any, Any, Any]  # key, the cloud's value, the board's, the one taken

# Merge rules
CLOUD = 0  # the cloud's value
BOARD = 1  # the board's value
LEAST = 2
GREATEST = 3
RULE_NAMES = ("cloud", "board", "least", "greatest")

# What a value may be
INT = 0
FLAG = 1
INTS = 2  # a list of integers; of one that has a value for each channel, those beyond its end have the default

_DAY_MS = 24 * 3600 * 1000
_LISTS = (list, tuple)

# Of each key: kind, lowest and highest value, default, merge rule.
KEYS = {
    "interval_ms": (INT, 100, _DAY_MS, 60_000, CLOUD),  # between two wakes that sample
    "sync_interval_ms": (INT, 1000, 7 * _DAY_MS, 3_600_000, CLOUD),  # between two scheduled sessions
    "syncs_per_hour": (INT, 1, 3600, 60, LEAST),  # sessions of any cause the token bucket lets through
    "deadband": (INTS, 0, 0x7FFFFFFF, (), CLOUD),  # by channel, in the channel's unit
    "heartbeat_rows": (INT, 1, 255, 60, LEAST),  # a quiet channel is reported after this many rows all the same
    "threshold_milli": (INT, -1_000_000, 1_000_000, 0, BOARD),  # added to the model's threshold, in thousandths
    "deadline_ms": (INT, 0, _DAY_MS, 0, CLOUD),  # for how long the answer to a QUERY is of use, 0 for ever
    "sensitive": (FLAG, False, True, False, GREATEST),  # features never leave the board
    "fog": (FLAG, False, True, False, BOARD),  # a fog tier answers on its broker, as whoever set the board up knows
    "upload": (INT, 0, 2, 0, CLOUD),  # of each window: policy.UPLOAD_*
    "update_hours": (INTS, 0, 1439, (), CLOUD),  # when models are downloaded: [begin, end] in minutes of the day, UTC
    "update_urgent": (
        FLAG,
        False,
        True,
        False,
        CLOUD,
    ),  # a download waits for no hour, and for no more than some charge
}

# How two documents relate
SAME = 0
CLOUD_AHEAD = 1
BOARD_AHEAD = 2
CONCURRENT = 3


def check(config: "Mapping[str, Any]") -> "list[tuple[str, str]]":
    """What is wrong with a configuration: (key, cause) for each unknown key or value out of bounds."""
    wrong: "list[tuple[str, str]]" = []
    for key in sorted(config):
        if key not in KEYS:
            wrong.append((key, "unknown key"))
        elif not _allowed(key, config[key]):
            wrong.append((key, "not %s" % bounds(key)))
    return wrong


def bounds(key: str) -> str:
    """In words, what a key takes."""
    kind, low, high, _, _ = KEYS[key]
    if kind == FLAG:
        return "true or false"
    return ("an integer of %d to %d" if kind == INT else "a list of integers of %d to %d") % (low, high)


def value(config: "Mapping[str, Any]", key: str) -> "Any":
    """The value in force: what the document says where that is allowed, else the default."""
    if key in config and _allowed(key, config[key]):
        return config[key]
    return KEYS[key][3]


def compare(cloud: "Vector", board: "Vector") -> int:
    """How the documents with these vectors relate: SAME, CLOUD_AHEAD, BOARD_AHEAD or CONCURRENT."""
    cloud_knows_more = cloud[0] > board[0]
    board_knows_more = board[1] > cloud[1]
    if cloud_knows_more and board_knows_more:
        return CONCURRENT
    if cloud_knows_more:
        return CLOUD_AHEAD
    return BOARD_AHEAD if board_knows_more else SAME


def merge(
    cloud: "Mapping[str, Any]", cloud_vector: "Vector", board: "Mapping[str, Any]", board_vector: "Vector"
) -> "tuple[dict[str, Any], Vector, list[Conflict]]":
    """(values, vector, conflicts) of the two documents together.

    Unknown keys and values out of bounds are left out: both sides report those through check(). The vector is the
    greater of each counter. Conflicts are listed for concurrent documents only, sorted by key.
    """
    relation = compare(cloud_vector, board_vector)
    vector = (max(cloud_vector[0], board_vector[0]), max(cloud_vector[1], board_vector[1]))
    merged: "dict[str, Any]" = {}
    conflicts: "list[Conflict]" = []
    for key in sorted(KEYS):
        of_cloud = value(cloud, key)
        of_board = value(board, key)
        if relation != CONCURRENT:
            chosen = of_board if relation == BOARD_AHEAD else of_cloud
        else:
            chosen = _choose(KEYS[key][4], of_cloud, of_board)
            if not _equal(of_cloud, of_board):
                conflicts.append((key, of_cloud, of_board, chosen))
        if not _equal(chosen, KEYS[key][3]):
            merged[key] = chosen
    return merged, vector, conflicts


def _choose(rule: int, of_cloud: "Any", of_board: "Any") -> "Any":
    if rule == CLOUD:
        return of_cloud
    if rule == BOARD:
        return of_board
    return min(of_cloud, of_board) if rule == LEAST else max(of_cloud, of_board)


def _equal(a: "Any", b: "Any") -> bool:
    """A list from the wire equals the tuple it was made from."""
    return list(a) == list(b) if type(a) in _LISTS and type(b) in _LISTS else a == b


def _allowed(key: str, setting: "Any") -> bool:
    kind, low, high, _, _ = KEYS[key]
    if kind == FLAG:
        return setting is True or setting is False
    if kind == INT:
        return _is_int(setting) and low <= setting <= high
    if type(setting) not in _LISTS or len(setting) > MAX_CHANNELS:
        return False
    return all(_is_int(item) and low <= item <= high for item in setting)


def _is_int(setting: "Any") -> bool:
    """True and False are integers to CPython only."""
    return isinstance(setting, int) and setting is not True and setting is not False
