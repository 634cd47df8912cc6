"""A comparison in the shadow over boards of real firmware and the real cloud, from its plan to the new champion."""

import asyncio
import random
from array import array
from pathlib import Path
from typing import Any

import pytest

from cloud.client import Client
from contract.features import Features
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.support.flow_boards import NEW, OLD, SCHEMA, WINDOW, Lives, World, living, on, until
from tools.simulate import SimulatedBoard

BOARDS = 20
BESIDE = 5
MEAN, MAX = 0, 1  # features of SCHEMA
# Of noise evenly over 200 about 1000 one window in 15 has a mean above the one, one in 6 a value above the other.
THRESHOLDS = {OLD: (MEAN, 1080.0), NEW: (MAX, 1182.0)}
INTERVAL_MS = 20 * 60_000
PERIOD_S = 2.5  # a HEALTH record is due after an hour, three wakes
SPEED = 3 * INTERVAL_MS / 1000 / PERIOD_S


def artifact_of(key: PublisherKey, version: str, sequence: int) -> bytes:
    """A model whose score is one of the features."""
    feature, threshold = THRESHOLDS[version]
    n_features = Features(SCHEMA).n_features
    vectors = [([n + at for at in range(n_features)], float(n + feature)) for n in (0, 5, -7)]
    fields = forge.manifest(
        name="flow",
        version=version,
        sequence=sequence,
        schema=SCHEMA,
        n_features=n_features,
        threshold=threshold,
        margin=0.0,
    )
    payload = forge.payload(sequence, body=f"return f[{feature}] + 0.0", n_features=n_features)
    return pack(fields, golden_bytes(vectors), payload, key)  # pyright: ignore[reportArgumentType]


def recording(number: int) -> list[list[int]]:
    noise = random.Random(number)
    return [[1000 + noise.randint(-200, 200)] for _ in range(4000)]


def windows(number: int) -> list[tuple[tuple[int, ...], bool]]:
    """(features, whether the two models decide differently) of each window a board measures, worked out offline."""
    features = Features(SCHEMA)
    rows = [row[0] for row in recording(number)]
    found: list[tuple[tuple[int, ...], bool]] = []
    for at in range(0, len(rows), WINDOW):
        vector = array("i", [0] * features.n_features)
        features.compute_into(array("i", rows[at : at + WINDOW]), vector)
        says = [vector[feature] > threshold for feature, threshold in THRESHOLDS.values()]
        found.append((tuple(vector), says[0] != says[1]))
    return found


async def compare(folder: Path, program: Path | None) -> dict[str, Any]:
    """Plans, starts and approves a comparison; returns what it had found before it was approved."""
    settings = {"sync_interval_ms": 2 * INTERVAL_MS, "syncs_per_hour": 3600}
    lives = Lives(BOARDS, INTERVAL_MS, settings, SPEED)
    async with living(folder, lives, artifact_of, lambda number: World(recording(number), {}), program) as (
        client,
        boards,
    ):
        return await watched(client, boards)


async def watched(client: Client, boards: list[SimulatedBoard]) -> dict[str, Any]:
    await until(lambda: on(client, OLD) == BOARDS, 120, f"{OLD} on all boards")
    await asyncio.sleep(3 * PERIOD_S)
    plan = {
        "name": "flow",
        "version": NEW,
        "fallback": OLD,
        "mode": "shadow",
        "steps": [25],
        "min_canaries": BESIDE,
        "period_ms": round(PERIOD_S * 1000),
        "soak_periods": 4,
        "patience_periods": 60,
        "false_stops": 0.1,
    }
    number = client.post("/rollouts", plan)["summary"]["id"]
    found: dict[str, Any] = client.post(f"/rollouts/{number}/start")

    def waits_for_the_operator() -> bool:
        nonlocal found
        found = client.get(f"/rollouts/{number}")
        assert found["summary"]["stage"] not in ("rolling back", "aborted"), found["summary"]["reason"]
        return "approve" in found["summary"]["reason"]

    await until(waits_for_the_operator, 240, "the end of the comparison")
    assert on(client, NEW) == 0
    found["disagreements"] = client.get(f"/rollouts/{number}/disagreements", limit=1000)
    client.post(f"/rollouts/{number}/approve")
    await until(lambda: on(client, NEW) == BOARDS, 180, f"{NEW} on all boards")
    left = [board.folder / "flash" / "models" / "s" for board in boards]
    await until(lambda: not any(list(slot.iterdir()) for slot in left if slot.exists()), 60, "no shadow on any board")
    return found


@pytest.mark.timeout(700)
def test_only_disagreements_are_sent_and_the_operator_makes_the_challenger_champion(
    tmp_path: Path, fast_wakes: Path | None
) -> None:
    found = asyncio.run(compare(tmp_path, fast_wakes))
    shadow = found["shadow"]
    beside = [board["device"] for board in found["cohort"] if board["exposed"]]
    assert BESIDE <= len(beside) <= BOARDS // 2
    assert {window["device"] for window in found["disagreements"]} <= set(beside)
    sent = 0
    for device in beside:
        all_windows = windows(int(device.split("-")[1]))
        differ = [vector for vector, differs in all_windows if differs]
        told = [tuple(w["features"]) for w in sorted(found["disagreements"], key=lambda w: (w["epoch"], w["seq"]))
                if w["device"] == device]  # fmt: skip
        sent += len(told)
        if told:  # one after the other as the offline comparison has them, and none left out
            first = differ.index(told[0])
            assert told == differ[first : first + len(told)]
    print(f"{shadow['compared']} windows compared, {shadow['disagreed']} decided differently, {sent} sent")
    assert shadow["compared"] > 5 * BESIDE
    assert 0 < shadow["disagreed"] <= shadow["sent"] == sent
