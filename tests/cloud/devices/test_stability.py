"""cloud/devices/stability.py: the index of counted bins against training, for one board and for many."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from cloud import wire_types as w
from cloud.devices import stability
from cloud.devices.queries import show_device
from cloud.models import keys
from cloud.models.blobs import Blobs
from cloud.models.service import Audience, Registry
from cloud.store.engine import writing
from tests.support.artifacts import card, digest, make, new_key
from tests.support.fleet import Fleet, settings_in

EVEN = bytes([32] * 7 + [31])
QUARTERS = bytes([64, 64, 64, 63])
BINS = struct.pack("<7f", *range(7)) + struct.pack("<3i", 10, 20, 30) * 2


def test_equal_shares_have_an_index_of_nearly_nothing():
    assert stability.index([100] * 8, EVEN) < 0.001
    assert stability.index([0] * 8, EVEN) == 0


def test_the_index_is_the_symmetric_divergence():
    counts, shares = [500, 300, 150, 50], bytes([64, 64, 64, 63])
    observed, expected = np.array(counts) / 1000, np.array(list(shares)) / 255
    exact = float(((observed - expected) * np.log(observed / expected)).sum())
    assert stability.index(counts, shares) == pytest.approx(exact, rel=0.02), "half a window a bin makes it smaller"


def test_chance_is_the_quantile_of_chi_square():
    for bins in (4, 8):
        assert stability.chance(bins, 1000) == pytest.approx(chi2.ppf(0.999, bins - 1) / 1000, rel=0.03)


def test_unchanged_windows_are_called_stable_all_but_once_in_a_thousand():
    random = np.random.default_rng(3)
    for bins, shares in ((8, EVEN), (4, QUARTERS)):
        probability = np.array(list(shares)) / 255
        words = [stability.judged(random.multinomial(70, probability).tolist(), shares)[1] for _ in range(5000)]
        assert sum(word != "stable" for word in words) <= 25, bins


def test_few_windows_say_nothing_and_many_elsewhere_say_changed():
    assert stability.judged([0, 0, 0, 10], QUARTERS)[1] == "few windows"
    assert stability.judged([0, 0, 0, 100], QUARTERS)[1] == "changed"
    value, word = stability.judged([340, 200, 240, 220], QUARTERS)
    assert value < stability.LOOK
    assert word == "stable"


def test_a_constant_feature_that_moves_is_noticed():
    shares = bytes([255, 0, 0, 0])
    assert stability.judged([200, 0, 0, 0], shares)[1] == "stable"
    assert stability.judged([0, 0, 0, 200], shares)[1] == "changed"


def counts(*shares: int) -> bytes:
    """Counts of two features."""
    return bytes(shares) * 2


def test_what_boards_report_is_kept_and_judged_by_the_bins_of_their_model(tmp_path: Path):
    key = new_key()
    fleet = Fleet(settings_in(tmp_path))
    data = make(key, bins=BINS, shares=EVEN + QUARTERS * 2)
    sha8 = bytes.fromhex(digest(data))[:8]

    async def publish(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await keys.trust(connection, key.public.hex(), "", fleet.now_ms())
        await Registry(engine, Blobs(fleet.settings.blobs_url)).publish([data], [card()], Audience())

    fleet.add("pump-1", "pump-2")
    fleet.run(publish)
    told = w.Profile(sha8, (20,) * 8, 0, counts(40, 40, 40, 40))
    fleet.health("pump-1", profile=told)
    fleet.health("pump-1", profile=w.Profile(sha8, (20,) * 8, 0, counts(160, 0, 0, 0)))
    fleet.health("pump-1")
    fleet.health("pump-2", profile=w.Profile(sha8, (0,) * 7 + (160,), 0, counts(40, 40, 40, 40)))

    async def look(engine: Any) -> tuple[Any, Any, Any]:
        async with engine.connect() as connection:
            first = (await show_device(connection, "pump-1", fleet.now_ms())).stability
            second = (await show_device(connection, "pump-2", fleet.now_ms())).stability
            both = await stability.of_boards(connection, ["pump-1", "pump-2"], 0)
            return first, second, both

    first, second, both = fleet.run(look)
    assert (first.name, first.version, first.records, first.windows, first.word) == ("flow", "1.0.0", 2, 320, "stable")
    assert [(f.word, f.windows, f.counts) for f in first.features] == [("changed", 320, [200, 40, 40, 40])] * 2
    assert {f.name for f in first.features} == {"flow.mean", "flow.max"}
    assert (second.word, second.windows) == ("changed", 160)
    assert [model.windows for model in both] == [480]
