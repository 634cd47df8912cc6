"""A forest that calls a window anomalous when its first feature is above a bound, as the reference of a schema."""

import asyncio
from typing import Any

import numpy as np

from cloud.models.blobs import Blobs
from cloud.models.service import Audience, Registry
from cloud.settings import Settings
from cloud.store.engine import make_engine, writing
from contract.features import Features
from model_export import table
from model_export.detectors.trees import Ensemble, IntegerTree
from model_export.keys import PublisherKey
from tests.support import artifacts

THRESHOLD = 0.5


def stump(bound: int, n_features: int) -> bytes:
    """The table blob: score 1 above the bound, else 0."""
    tree = IntegerTree(
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([0, 0, 0]),
        np.array([bound + 1, 0, 0]),
        np.array([0, 0, 1]),
    )
    return table.forest(Ensemble([tree], np.array([0.0, 1.0]), n_features, THRESHOLD, 0, 1.0), THRESHOLD)


def publish(
    settings: Settings, bound: int, schema: str, name: str = "big", golden: float = 0.0, **changes: Any
) -> bytes:
    """Publishes such a forest and makes it the reference; returns the artifact."""
    key = artifacts.new_key()
    data = reference(key, bound, schema, name, golden, **changes)

    async def work() -> None:
        from cloud.models import keys

        engine = make_engine(settings)
        try:
            async with writing(engine).begin() as connection:
                await keys.trust(connection, key.public.hex(), "tests", 1)
            registry = Registry(engine, Blobs(settings.blobs_url))
            await registry.publish([data], [], Audience())
            await registry.promote(name, "1.0.0", "reference")
        finally:
            await engine.dispose()

    asyncio.run(work())
    return data


def reference(key: PublisherKey, bound: int, schema: str, name: str, golden: float, **changes: Any) -> bytes:
    """The artifact, of another `payload` if one is given; its golden vector of zeros has score `golden`."""
    n_features = Features(schema).n_features
    return artifacts.blob(
        key,
        name=name,
        schema=schema,
        payload=changes.pop("payload", None) or stump(bound, n_features),
        threshold=THRESHOLD,
        golden=[([0] * n_features, golden)],
        **changes,
    )
