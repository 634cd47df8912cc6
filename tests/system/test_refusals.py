"""A server that serves what no publisher signed: the board refuses each by its reason and goes on, and all see why."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.client import Client
from cloud.clock import now_ms
from cloud.models.blobs import Blobs
from cloud.models.manifests import to_json
from cloud.models.tables import assignments
from cloud.settings import load_settings
from cloud.store.engine import make_engine, writing
from cloud.store.tables import artifacts, desired, models
from contract import artifact
from model_export import keys
from model_export.artifact import pack
from model_export.keys import PublisherKey
from tests.device.update import forge
from tools.demo import stage
from tools.provision import BoardPlan, Broker, make_board
from tools.simulate import SimulatedBoard, supervised

BOARD = "pump-1"
MODEL = "pump"
SCHEMA = "v1;w=4;c=flow:l/s:100;f=mean,min,max"
OTHER_SCHEMA = "v1;w=8;c=flow:l/s:100;f=mean,min,max"
WAKES = 40  # enough for an offer to come, be fetched and be answered for


def model(key: PublisherKey, version: str, sequence: int, **changes: Any) -> bytes:
    """A sound artifact for this board, but for `changes` of its manifest."""
    fields: dict[str, Any] = {"schema": SCHEMA, "threshold": 1e9, "version": version, "sequence": sequence}
    return pack(forge.manifest(**(fields | changes)), forge.golden(0), forge.payload(0), key)


def wrong_signature(key: PublisherKey) -> tuple[bytes, bytes]:
    data = model(key, "2.0.0", 2)
    forged = bytearray(data)
    forged[artifact.HEADER_BYTES + artifact.KEY_ID_BYTES + 40] ^= 1
    return data, bytes(forged)


def cut(key: PublisherKey) -> tuple[bytes, bytes]:
    data = model(key, "3.0.0", 3)
    return data, data[:-100]


def other_arch(key: PublisherKey) -> tuple[bytes, bytes]:
    data = model(key, "4.0.0", 4, arch="xtensawin")
    return data, data


def other_features(key: PublisherKey) -> tuple[bytes, bytes]:
    data = model(key, "5.0.0", 5, schema=OTHER_SCHEMA)
    return data, data


CASES: tuple[tuple[Callable[[PublisherKey], tuple[bytes, bytes]], str], ...] = (
    (wrong_signature, "bad signature"),
    (cut, "cut"),
    (other_arch, "wrong arch"),
    (other_features, "feature schema mismatch"),
)


async def serve_without_checks(data_dir: Path, whole: bytes, served: bytes) -> None:
    """Offer what `whole` states and serve `served` for it, past the registry, as a server in wrong hands can."""
    settings = load_settings(data_dir=data_dir)
    manifest = artifact.Head(whole).manifest()
    digest = await Blobs(settings.blobs_url).put(served)
    assert digest == sha256(served).hexdigest()

    async def insert(engine: AsyncEngine) -> None:
        facts = {"name": manifest.name, "version": manifest.version, "created_ms": now_ms()}
        async with writing(engine).begin() as connection:
            about = {"sequence": manifest.sequence, "schema": manifest.schema, "detector": "sum", "card": {}}
            limits = {"schema_hash": manifest.schema_hash.hex(), "threshold": 1.0, "margin": 1.0}
            await connection.execute(sa.insert(models).values(**facts, **about, **limits))
            target = {"arch": manifest.arch, "abi": manifest.abi, "format": manifest.format}
            stated = {"sha256": digest, "size": len(whole), "key_id": "0" * 16, "manifest": to_json(manifest)}
            await connection.execute(sa.insert(artifacts).values(**facts, **target, **stated))
            # Pinned to it, or the next HELLO would have the server put its choice right again.
            pinned = sa.update(assignments).where(assignments.c.device == BOARD)
            await connection.execute(pinned.values(name=manifest.name, version=manifest.version))
            wanted = sa.update(desired).where(desired.c.device == BOARD)
            await connection.execute(wanted.values(artifact_sha256=digest, version=desired.c.version + 1))

    engine = make_engine(settings)
    try:
        await insert(engine)
    finally:
        await engine.dispose()


async def until(board: SimulatedBoard, client: Client, version: str, state: str, reason: str = "ok") -> None:
    """Wake the board until the cloud knows this step of this version, and why."""
    update: dict[str, Any] | None = None
    for _ in range(WAKES):
        await board.run(wakes=1)
        update = (await asyncio.to_thread(client.get, f"/devices/{BOARD}"))["summary"]["update"]
        if update and (update["version"], update["state"], update["reason"]) == (version, state, reason):
            return
    log = (board.folder / "log.txt").read_text()[-2000:]
    pytest.fail(f"{version} was not {state} after {WAKES} wakes; last: {update}; log: {log}")


async def story(folder: Path) -> list[tuple[str, str, str, bool]]:
    """For each case: the reason in the command, the model that runs on, whether the page names the reason."""
    key = keys.create(folder / "keys", "test")
    outcome: list[tuple[str, str, str, bool]] = []
    async with stage.server(folder / "data") as up:
        (login,) = await stage.edgewise("device", "add", BOARD, "--kind", "pump", "--data", str(up.data))
        broker = login["broker"]
        plan = BoardPlan(
            device=BOARD,
            kind="pump",
            schema=SCHEMA,
            interval_ms=60_000,
            broker=Broker(broker["port"], broker["host"], broker["user"], broker["password"]),
            trusted_keys={key.key_id.hex(): key.public.hex()},
            settings={"sync_interval_ms": 60_000, "syncs_per_hour": 3600},
            log=True,
        )
        make_board(folder / BOARD, plan, [[n % 50] for n in range(400)], 15_000)
        good = folder / "good.ewa"
        good.write_bytes(model(key, "1.0.0", 1))
        with up.client() as client:
            client.post("/keys", {"public_key": key.public.hex(), "label": "test"})
        await stage.edgewise("model", "publish", str(good), "--to", BOARD, "--data", str(up.data))
        async with supervised([folder / BOARD], speed=1000.0) as (board,):
            with up.client() as client:
                await until(board, client, "1.0.0", "committed")
            for make, why in CASES:
                whole, served = make(key)
                await serve_without_checks(up.data, whole, served)
                with up.client() as client:
                    # A first try, deflated, ends as a bad patch; the second takes what is served as it is.
                    await until(board, client, artifact.Head(whole).manifest().version, "refused", why)
                shown = await stage.edgewise("device", "show", BOARD, "--data", str(up.data))
                reason = shown["summary"]["update"]["reason"]
                page = httpx.get(f"{up.http}/devices/{BOARD}").text
                await board.run(wakes=2)
                shown = await stage.edgewise("device", "show", BOARD, "--data", str(up.data))
                outcome.append((make.__name__, reason, shown["summary"]["model"]["version"], reason in page))
    return outcome


@pytest.mark.timeout(180)
def test_board_refuses_each_bad_artifact_by_its_reason_and_runs_on(tmp_path: Path):
    outcome = asyncio.run(story(tmp_path))
    print("\n" + "\n".join(f"{name}: {reason}" for name, reason, _, _ in outcome))
    assert outcome == [(make.__name__, reason, "1.0.0", True) for make, reason in CASES]
