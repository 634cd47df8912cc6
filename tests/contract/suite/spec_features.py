"""Window features: values worked out by hand, the bits of the golden hash, the grammar's refusals, and no heap."""

import gc
from array import array

from contract.features import COUNT_LIMIT, FEATURE_LIMIT, Features, SchemaError, cosine_table, square_root
from tests.contract.suite.check import Random

ALL = "mean,var,sd,min,max,last,pp,ld,ld2,md,md2,zc,crest,kurt"


def compute(schema, window):
    features = Features(schema)
    out = array("i", bytes(4 * features.n_features))
    features.compute_into(array("i", window), out)
    return list(out)


def one(token, window):
    return compute("v1;w=%d;c=x::1;f=%s" % (len(window), token), window)[0]


def test_features_of_a_window_worked_out_by_hand():
    # mean 4 (35 / 8 = 4.4), deviations -3 -2 -1 0 1 2 3 3, their squares 37, 37 // 8 = 4
    window = [1, 2, 3, 4, 5, 6, 7, 7]
    expected = {
        "mean": 4, "var": 4, "sd": 2, "min": 1, "max": 7, "last": 7, "pp": 6, "ld": 0, "ld2": -1, "md": 0, "md2": 0,
        "zc": 1,
    }  # fmt: skip
    for token in expected:
        assert one(token, window) == expected[token], (token, one(token, window))


def test_crest_and_kurtosis_are_256_times_their_value():
    # Half the samples at -10, half at 10: peak over spread 1, kurtosis 1.
    window = [-10, 10] * 8
    assert one("crest", window) == 256
    assert one("kurt", window) == 256
    # One of 16 at 15, the rest at -1: variance 15, kurtosis (15**4 + 15) / 16 / 225 = 14.07
    window = [-1] * 15 + [15]
    assert abs(one("kurt", window) - 3602) <= 256
    assert abs(one("crest", window) - 991) <= 1
    assert one("kurt", [5] * 16) == 0
    assert one("crest", [5] * 16) == 0


def test_the_mean_is_rounded_to_the_nearest_and_below_zero_too():
    assert one("mean", [0, 1]) == 1
    assert one("mean", [0, -1]) == 0
    assert one("mean", [-3, -4, -4]) == -4


def test_zero_crossings_count_changes_of_side_of_the_mean():
    assert one("zc", [0, 10, 0, 10]) == 3
    assert one("zc", [0, 0, 10, 10]) == 1
    assert one("zc", [5, 5, 5, 5]) == 0


def test_a_tone_has_its_energy_in_its_own_bin():
    # cos of 2 periods in 16 samples, amplitude 1000: |X| / w = 500
    cosine = [1000, 707, 0, -707, -1000, -707, 0, 707] * 2
    bins = compute("v1;w=16;c=x::1;f=be1,be2,be3,be4,be1-8", cosine)
    assert abs(bins[1] - 250000) < 1500
    assert max(bins[0], bins[2], bins[3]) < 100
    assert abs(bins[4] - bins[1]) < 200


def test_channels_come_one_after_the_other_in_the_order_of_the_schema():
    schema = "v1;w=2;c=a:V:10,b:A:1/100;f=last,min"
    assert Features(schema).names == ["a.last", "a.min", "b.last", "b.min"]
    assert compute(schema, [1, 20, 3, 10]) == [3, 1, 10, 10]
    channels = Features(schema).channels
    assert [(c.name, c.unit, c.scale_num, c.scale_den) for c in channels] == [("a", "V", 10, 1), ("b", "A", 1, 100)]


def test_the_hash_is_that_of_the_text():
    assert Features("v1;w=8;c=flow:l/s:100;f=mean,var,min,max,ld,zc").schema_hash.hex() == "8dc343a57dc4c67e"


def test_samples_beyond_the_limit_count_as_the_limit():
    limits = compute("v1;w=2;c=x::1;f=min,max,pp,ld,var", [-2000000000, 2000000000])
    assert limits == [-COUNT_LIMIT, COUNT_LIMIT, 2 * COUNT_LIMIT, 2 * COUNT_LIMIT, COUNT_LIMIT * COUNT_LIMIT]
    assert max(limits) <= FEATURE_LIMIT


def test_every_runtime_gives_the_same_bits():
    random = Random(7)
    digest = 0
    for window in (1, 2, 3, 5, 16, 64, 256):
        tokens = ALL + ",be1-%d,be%d" % (window // 2, window // 2) if window > 4 else "mean,var,sd,min,max,crest,kurt"
        schema = "v1;w=%d;c=a::1,b::1;f=%s" % (window, tokens)
        for bound in (2, 40, 3000, 65535):
            for flat in (False, True):
                span = [random.below(bound) - bound // 2 for _ in range(2 * window)]
                if flat:  # two values only, as far apart as they can be
                    span = [COUNT_LIMIT if value & 1 else -COUNT_LIMIT for value in span]
                for value in compute(schema, span):
                    digest = (digest * 31 + value) & 0xFFFFFFFF
    assert digest == 0xC2C5BB66, hex(digest)


def test_the_cosine_table_is_right_to_half_a_unit():
    table = cosine_table(4)
    assert list(table) == [
        16384, 15137, 11585, 6270, 0, -6270, -11585, -15137, -16384, -15137, -11585, -6270, 0, 6270, 11585, 15137
    ]  # fmt: skip
    for window in (1, 5, 256):
        table = cosine_table(window)
        for i in range(4 * window):
            sine = table[(i + 3 * window) % (4 * window)]
            square = table[i] * table[i] + sine * sine
            assert abs(square - (1 << 28)) < 40000


def test_the_square_root_is_the_floor():
    for value in (0, 1, 2, 3, 4, 15, 16, 17, 999999, (1 << 30) - 1, 32767 * 32767, 32767 * 32767 - 1):
        root = square_root(value)
        assert root * root <= value < (root + 1) * (root + 1)


def test_a_schema_that_breaks_the_grammar_is_refused_with_its_part():
    for schema, part in (
        ("", ""),
        ("v2;w=1;c=a::1;f=last", "v2"),
        ("v1;w=1;c=a::1", "v1;w=1;c=a::1"),
        ("v1;w=1;c=a::1;f=last;f=min", "f=min"),
        ("v1;w=1;x=2;c=a::1;f=last", "x=2"),
        ("v1;w=0;c=a::1;f=last", "0"),
        ("v1;w=257;c=a::1;f=last", "257"),
        ("v1;w=-1;c=a::1;f=last", "-1"),
        ("v1;w=4;c=a;f=last", "a"),
        ("v1;w=4;c=:V:1;f=last", ":V:1"),
        ("v1;w=4;c=a::0;f=last", "0"),
        ("v1;w=4;c=a::1/0;f=last", "0"),
        ("v1;w=4;c=a::1.5;f=last", "1.5"),
        ("v1;w=4;c=a::1;f=median", "median"),
        ("v1;w=1;c=a::1;f=ld", "ld"),
        ("v1;w=2;c=a::1;f=ld2", "ld2"),
        ("v1;w=8;c=a::1;f=be0", "0"),
        ("v1;w=8;c=a::1;f=be5", "be5"),
        ("v1;w=8;c=a::1;f=be3-2", "2"),
        ("v1;w=8;c=a::1,a::1;f=last", "v1;w=8;c=a::1,a::1;f=last"),
        ("v1;w=8;c=a::1;f=last,last", "v1;w=8;c=a::1;f=last,last"),
    ):
        try:
            Features(schema)
        except SchemaError as error:
            assert error.part == part, (schema, error.part)
            assert repr(part) in str(error)
        else:
            raise AssertionError(schema + " was taken")


def test_limits_on_channels_features_and_length():
    channels = ",".join("c%d::1" % i for i in range(16))
    assert Features("v1;w=4;c=%s;f=mean,var,min,max,ld,zc,sd,pp" % channels).n_features == 128
    for schema in (
        "v1;w=4;c=%s,x::1;f=last" % channels,
        "v1;w=4;c=%s;f=mean,var,min,max,ld,zc,sd,pp,last" % channels,
        "v1;w=4;c=%s;f=last" % ("x" * 600 + "::1"),
    ):
        try:
            Features(schema)
        except SchemaError:
            continue
        raise AssertionError(schema[:40] + " was taken")


def test_arrays_of_another_length_are_refused():
    features = Features("v1;w=2;c=a::1;f=last,min")
    for window, out in ((1, 2), (3, 2), (2, 1), (2, 3)):
        try:
            features.compute_into(array("i", bytes(4 * window)), array("i", bytes(4 * out)))
        except ValueError:
            continue
        raise AssertionError("taken")


def test_computing_allocates_nothing():
    mem_alloc = getattr(gc, "mem_alloc", None)
    if mem_alloc is None:  # CPython
        return
    features = Features("v1;w=16;c=a::1,b::1;f=" + ALL + ",be1-8")
    window = array("i", [(i * 7919) % 65535 - 32767 for i in range(32)])
    out = array("i", bytes(4 * features.n_features))
    features.compute_into(window, out)
    gc.collect()
    before = mem_alloc()
    features.compute_into(window, out)
    assert mem_alloc() == before
