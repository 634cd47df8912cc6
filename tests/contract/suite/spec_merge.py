"""Configuration documents: bounds, version vectors, and one merge rule per key."""

from contract import merge
from tests.contract.suite.check import Random


def test_defaults_are_within_their_own_bounds():
    for key in merge.KEYS:
        assert merge.check({key: merge.KEYS[key][3]}) == [], key


def test_unknown_keys_and_values_out_of_bounds_are_named_with_their_cause():
    wrong = merge.check(
        {"interval_ms": 99, "sensitive": 1, "deadband": [1, -1], "heartbeat_rows": True, "colour": 1, "deadline_ms": 5}
    )
    assert wrong == [
        ("colour", "unknown key"),
        ("deadband", "not a list of integers of 0 to 2147483647"),
        ("heartbeat_rows", "not an integer of 1 to 255"),
        ("interval_ms", "not an integer of 100 to 86400000"),
        ("sensitive", "not true or false"),
    ]
    assert merge.check({"deadband": [0] * 17}) != []
    assert merge.check({"deadband": [True]}) != []
    assert merge.check({"deadband": 5}) != []
    assert merge.check({"interval_ms": 60000.0}) != []


def test_a_value_out_of_bounds_is_not_in_force():
    assert merge.value({"interval_ms": 500}, "interval_ms") == 500
    assert merge.value({"interval_ms": 5}, "interval_ms") == 60_000
    assert merge.value({}, "sensitive") is False


def test_version_vectors_say_who_knows_more():
    for cloud, board, expected in (
        ((3, 1), (3, 1), merge.SAME),
        ((4, 1), (3, 1), merge.CLOUD_AHEAD),
        ((4, 2), (3, 1), merge.CLOUD_AHEAD),
        ((3, 1), (3, 2), merge.BOARD_AHEAD),
        ((4, 1), (3, 2), merge.CONCURRENT),
    ):
        assert merge.compare(cloud, board) == expected, (cloud, board)


CLOUD = {"interval_ms": 5000, "heartbeat_rows": 20, "sensitive": False, "threshold_milli": 10, "deadband": [1, 2]}
BOARD = {"interval_ms": 7000, "heartbeat_rows": 10, "sensitive": True, "threshold_milli": 30, "deadband": [1, 2]}


def test_the_document_that_knows_more_replaces_the_other():
    assert merge.merge(CLOUD, (4, 1), BOARD, (3, 1)) == (
        {"interval_ms": 5000, "heartbeat_rows": 20, "threshold_milli": 10, "deadband": [1, 2]},
        (4, 1),
        [],
    )
    values, vector, conflicts = merge.merge(CLOUD, (3, 1), BOARD, (3, 2))
    assert (values, vector, conflicts) == (BOARD, (3, 2), [])


def test_concurrent_documents_merge_by_the_rule_of_each_key_and_list_their_conflicts():
    values, vector, conflicts = merge.merge(CLOUD, (4, 1), BOARD, (3, 2))
    assert values == {
        "interval_ms": 5000,
        "heartbeat_rows": 10,
        "sensitive": True,
        "threshold_milli": 30,
        "deadband": [1, 2],
    }
    assert vector == (4, 2)
    assert conflicts == [
        ("heartbeat_rows", 20, 10, 10),
        ("interval_ms", 5000, 7000, 5000),
        ("sensitive", False, True, True),
        ("threshold_milli", 10, 30, 30),
    ]


def test_both_sides_arrive_at_the_same_document_and_then_agree():
    values, vector, _ = merge.merge(CLOUD, (4, 1), BOARD, (3, 2))
    again, same_vector, conflicts = merge.merge(values, vector, values, vector)
    assert (again, same_vector, conflicts) == (values, vector, [])


def test_a_missing_key_counts_as_its_default():
    _, _, conflicts = merge.merge({}, (2, 0), {"interval_ms": 60_000}, (1, 1))
    assert conflicts == []
    _, _, conflicts = merge.merge({}, (2, 0), {"sensitive": True}, (1, 1))
    assert conflicts == [("sensitive", False, True, True)]


def test_a_list_from_the_wire_equals_a_tuple_of_the_same_numbers():
    _, _, conflicts = merge.merge({"deadband": (1, 2)}, (2, 0), {"deadband": [1, 2]}, (1, 1))
    assert conflicts == []


def test_merging_never_leaves_the_bounds():
    random = Random(9)
    for _ in range(300):
        documents = []
        for _ in range(2):
            document = {}
            for key in merge.KEYS:
                if random.below(2):
                    document[key] = random.pick((0, 1, 100, 60_000, -5, True, False, "x", None, (), (3, 4), 2**40))
            documents.append(document)
        values, _, conflicts = merge.merge(documents[0], (2, 0), documents[1], (1, 1))
        assert merge.check(values) == []
        for key, of_cloud, of_board, chosen in conflicts:
            assert chosen in (of_cloud, of_board), key
