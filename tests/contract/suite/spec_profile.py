"""Quantile bins: what a manifest may say of them, where a value is counted, and how a board finds them on flash."""

import io
import struct

from contract import artifact, profile, wire
from tests.contract.suite.check import Random
from tests.contract.suite.spec_artifact import _encode, _fields, _refused

_SCORES = (-1.5, -0.5, 0.0, 0.0, 0.25, 0.5, 8.0)
_QUARTERS = (-7, 0, 2147483647)
_SCORE_SHARES = (32, 32, 32, 0, 63, 32, 32, 32)
_QUARTER_SHARES = (64, 64, 64, 63)


def bins_of(count, scores=_SCORES, quarters=_QUARTERS):
    return struct.pack("<7f", *scores) + struct.pack("<3i", *quarters) * count


def shares_of(count, scores=_SCORE_SHARES, quarters=_QUARTER_SHARES):
    return bytes(scores) + bytes(quarters) * count


def test_a_manifest_may_carry_bins_of_all_features_of_some_and_of_none():
    for count in (0, 1, 2):
        encoded = _encode(_fields(bins=bins_of(count), shares=shares_of(count)))
        manifest = artifact.parse_manifest(encoded)
        assert (manifest.bins, manifest.shares) == (bins_of(count), shares_of(count))
        assert profile.profiled(manifest.bins) == count
        assert profile.score_edges(manifest.bins) == _SCORES
        for feature in range(count):
            assert profile.feature_edges(manifest.bins, feature) == _QUARTERS
    manifest = artifact.parse_manifest(_encode(_fields()))
    assert (manifest.bins, manifest.shares) == (b"", b"")


def test_bins_that_make_no_sense_are_refused():
    infinite, nan = float("inf"), float("nan")
    for bins, shares in (
        (bins_of(3), shares_of(3)),  # of two features
        (bins_of(1), shares_of(2)),
        (bins_of(2), shares_of(1)),
        (bins_of(1)[:-1], shares_of(1)),
        (bins_of(1) + b"\0", shares_of(1)),
        (bins_of(0)[:-4], shares_of(0)),
        (bins_of(1, scores=(infinite,) * 7), shares_of(1)),
        (bins_of(1, scores=_SCORES[:6] + (infinite,)), shares_of(1)),
        (bins_of(1, scores=(nan,) + _SCORES[1:]), shares_of(1)),
        (bins_of(1, scores=_SCORES[:5] + (8.0, 7.9)), shares_of(1)),
        (bins_of(1, quarters=(0, -1, 5)), shares_of(1)),
        (bins_of(1), shares_of(1, quarters=(64, 64, 64, 64))),
        (bins_of(1), shares_of(1, scores=(32,) * 7 + (30,))),
    ):
        _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(_fields(bins=bins, shares=shares)))
    _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(_fields(bins=bins_of(0))))
    _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(_fields(shares=shares_of(0))))


def test_a_value_on_an_edge_belongs_below_it():
    for value, place in ((-9, 0), (-7, 0), (-6, 1), (0, 1), (1, 2), (2147483647, 2)):
        counts = [0] * 6
        profile.count(counts, 2, value, _QUARTERS)
        assert counts.index(1) == 2 + place, value
    counts = [0] * 8
    for value in (0.0, 0.1, 1e30, float("inf"), float("-inf")):
        profile.count(counts, 0, value, _SCORES)
    assert counts == [1, 0, 1, 0, 1, 0, 0, 2], "of two edges that are equal the bin between them stays empty"


def test_counts_add_up_to_the_windows_until_a_bin_is_full():
    random = Random(5)
    for n_windows in (0, 1, 700, 3000):
        counts = [7] + [0] * 8 + [7]
        counted = 0
        for _ in range(n_windows):
            full = max(counts) >= profile.MAX_COUNT
            profile.count(counts, 1, random.below(1600) / 100 - 4, _SCORES)
            counted += not full
        assert sum(counts[1:9]) == counted
        assert max(counts) <= profile.MAX_COUNT
        assert (counts[0], counts[9]) == (7, 7), "nothing beside the bins is touched"
        assert counted == n_windows or max(counts) == profile.MAX_COUNT


def test_bins_are_found_behind_the_first_keys_of_a_manifest():
    for abi, arch, count in ((0, "any", 0), (1539, "xtensawin", 2), (65535, "abcdefghijklmnop", 127), (127, "x", 18)):
        fields = _fields(abi=abi, arch=arch, n_features=127, bins=bins_of(count), shares=shares_of(count))
        at, n_bytes = profile.find_bins(io.BytesIO(bytes(92) + _encode(fields)), 92)
        assert n_bytes == len(bins_of(count))
        assert (bytes(92) + _encode(fields))[at : at + n_bytes] == bins_of(count)
    assert profile.find_bins(io.BytesIO(_encode(_fields())), 0) == (0, 0)


def test_a_head_that_flash_spoiled_gives_no_bins_or_an_error_of_the_wire():
    sound = _encode(_fields(bins=bins_of(2), shares=shares_of(2)))
    random = Random(9)
    for _ in range(2000):
        bad = bytearray(sound)
        bad[random.below(60)] = random.below(256)
        try:
            at, n_bytes = profile.find_bins(io.BytesIO(bad[: random.below(len(bad))]), 0)
        except wire.WireError:
            continue
        assert at <= 128
        assert 0 <= n_bytes <= 0xFFFF
