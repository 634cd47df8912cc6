"""The table blob of a Gaussian: integers from feature to decision, and nothing that its description does not allow."""

import struct
from array import array

from contract import table, table_gaussian
from contract.table import TableError
from contract.table_gaussian import Gaussian

_THRESHOLD = 6.25
_EXPONENT = 2  # the limit is 25


def gaussian(means=(40, -8), factor=((1, 0), (0, 1)), **lies):
    n = len(means)
    exponent = lies.get("exponent", _EXPONENT)
    data = bytearray(struct.pack(table.HEADER, table.MAGIC, table.GAUSSIAN, 0, lies.get("n_features", n), 0, 0))
    data += struct.pack(
        table_gaussian.GAUSSIAN_HEADER,
        lies.get("threshold", _THRESHOLD),
        exponent,
        lies.get("zero", 0),
        0,
        lies.get("limit", 25),
    )
    for mean in means:
        data += struct.pack("<i", mean)
    data += bytes(lies.get("losses", [0] * n)) + bytes(lies.get("fractions", [2] * n))
    for column in range(n):
        for row in range(column, n):
            data += struct.pack("<h", factor[row][column])
    table.seal(data)
    return data


def _refused(data, word):
    try:
        Gaussian(data).check()
    except TableError as error:
        assert word in str(error), "refused for %r, not for %r" % (str(error), word)
        return
    raise AssertionError("not refused: " + word)


def test_a_distance_is_what_the_description_says():
    read = Gaussian(gaussian(factor=((3, 0), (-5, 7))))
    read.check()
    assert (read.n_features, read.threshold, read.exponent, read.limit) == (2, 6.25, 2, 25)
    # d = (4 * 11 - 40, 4 * -4 + 8) = (4, -8), y = (3 * 4 - 5 * -8, 7 * -8)
    assert read.distance(array("i", (11, -4))) == 52 * 52 + 56 * 56
    assert read.score(array("i", (11, -4))) == (52 * 52 + 56 * 56) / 4
    assert read.distance(array("i", (10, -2))) == 0


def test_a_tie_is_not_anomalous_and_the_next_integer_is():
    blob = gaussian(means=(0, 0), fractions=(0, 0))
    read = Gaussian(blob)
    for features, distance in (((3, 4), 25), ((-5, 0), 25), ((5, 1), 26), ((4, -3), 25), ((0, 4), 16)):
        assert read.distance(features) == distance
        assert (read.score(features) > read.threshold) == (distance > 25)


def test_a_score_is_on_the_side_of_the_integers_where_no_float_can_be():
    # y = (2**30, x): 2**60 + 1 is 2**60 as a float, and the limit.
    blob = gaussian((0, 0), ((1 << 14, 0), (0, 1)), threshold=16.0, exponent=56, limit=1 << 60, fractions=(15, 0))
    read = Gaussian(blob)
    read.check()
    for features, above in (((2, 0), 0), ((2, 1), 1), ((-2, -1), 1)):
        assert read.distance(features) == (1 << 60) + above
        assert read.score(features) == 16.0 + above * 2.0**-19


def test_a_feature_loses_its_lowest_bits_and_stays_at_the_ends_of_int16():
    read = Gaussian(gaussian((0, 0), losses=(18, 0), fractions=(0, 0)))
    assert read.distance((-(1 << 31), 0)) == 8192**2
    assert read.distance((-1, 0)) == 1
    assert read.distance((0, (1 << 31) - 1)) == 32766**2
    assert read.distance((0, -(1 << 31))) == 32767**2


def test_the_widest_numbers_are_added_exactly():
    n = 128
    row = [-32768] * n
    means = [table_gaussian.MAX_MEAN] * n
    read = Gaussian(gaussian(means, [row] * n, fractions=[15] * n))
    read.check()
    d = (-32767 << 15) - table_gaussian.MAX_MEAN
    assert read.distance([-40000] * n) == sum([(k * 32768 * d) ** 2 for k in range(1, n + 1)])
    assert n * 32768 * -d <= 1 << 53
    assert read.score([-40000] * n) > read.threshold


def test_every_flipped_bit_is_refused():
    data = gaussian()
    for index in range(len(data)):
        for bit in range(8):
            data[index] ^= 1 << bit
            _refused(data, "")
            data[index] ^= 1 << bit
    Gaussian(data).check()


def test_a_changed_header_is_refused_or_decides_the_same_though_the_crc_is_right():
    sound = gaussian()
    taken = 0
    for index in range(table_gaussian.MEANS_AT):
        for value in range(256):
            data = bytearray(sound)
            data[index] = value
            struct.pack_into("<I", data, 12, table.crc_of(data))
            try:
                read = Gaussian(data)
                read.check()
            except TableError:
                continue
            taken += data != sound
            assert (read.n_features, read.exponent, read.limit) == (2, _EXPONENT, 25)
            assert table_gaussian.limit_of(struct.unpack_from("<I", data, 16)[0], _EXPONENT) == 25
    # A threshold that a distance in whole units cannot tell from the other.
    assert taken > 0


def test_every_truncation_and_every_appended_byte_is_refused():
    data = gaussian()
    for size in range(len(data)):
        _refused(data[:size], "")
    _refused(data + b"\0", "")


def test_numbers_outside_their_ranges_are_refused_though_the_crc_is_right():
    for lies, word in (
        ({"n_features": 0}, "0 features"),
        ({"n_features": 3}, "bytes, not"),
        ({"n_features": 129}, "129 features"),
        ({"exponent": 127}, "exponent"),
        ({"zero": 1}, "exponent"),
        ({"limit": 24}, "limit"),
        ({"limit": 26}, "limit"),
        ({"limit": 1 << 62}, "exponent or limit"),
        ({"limit": (1 << 64) - 1}, "exponent or limit"),
        ({"threshold": -6.25}, "threshold"),
        ({"threshold": float("inf")}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": -0.0}, "threshold"),
        ({"losses": (0, 19)}, "fraction 1"),
        ({"fractions": (16, 0)}, "fraction 0"),
        ({"means": ((1 << 30) + 1, 0)}, "mean 0"),
        ({"means": (0, -(1 << 30) - 1)}, "mean 1"),
    ):
        _refused(gaussian(**lies), word)
    Gaussian(gaussian(losses=(18, 18), fractions=(15, 15), means=(1 << 30, -(1 << 30)))).check()


def test_another_kind_of_blob_is_refused():
    data = gaussian()
    data[4] = 3
    table.seal(data)
    _refused(data, "kind 3")
    assert table.kind_of(data) == 3
    assert table.kind_of(b"EWT1") == 0


def test_a_limit_is_the_threshold_rounded_down_in_integers():
    for number, exponent, limit in ((6.25, 2, 25), (6.25, 1, 12), (0.0, 9, 0), (1.5, 60, 3 << 59), (2.0**-149, 126, 0)):
        assert table_gaussian.limit_of(struct.unpack("<I", struct.pack("<f", number))[0], exponent) == limit
