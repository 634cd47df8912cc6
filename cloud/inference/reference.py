"""Which model a tier scores with, and the model itself.

It is the version of a model for the board's feature schema that an operator gave the alias `reference`, by its table
blob: data, signed by a publisher as every artifact is, that needs no compiler and runs nothing. Its golden vectors are
scored before it answers anybody, as a board's self-test does.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.errors import BlobCorrupt, BlobMissing, Unavailable
from cloud.inference import forest, gaussian
from cloud.models.blobs import Blobs
from cloud.store.tables import aliases, artifacts, models
from contract import artifact, table

REFERENCE = "reference"
_MAX_LOADED = 16

Scorer = forest.Scorer | gaussian.Scorer


@dataclass(frozen=True, slots=True)
class Reference:
    """A model a tier can score with."""

    name: str
    version: str
    sha8: bytes
    scorer: Scorer


class Unusable(Exception):
    """There is no model to score with; the message says why and what to do."""


class References:
    """Finds and keeps the models of a tier; a new alias counts from the next question on."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._loaded: OrderedDict[str, Reference | str] = OrderedDict()  # digest -> the model, or what is wrong with it

    async def of_schema(self, connection: AsyncConnection, schema_hash: str | None) -> Reference:
        """The reference for a feature schema; of several the one that was named last. Raises Unusable."""
        if schema_hash is None:
            raise Unusable("the board has not said which features it computes: it says so in its next HELLO")
        query = (
            sa.select(models.c.name, models.c.version, artifacts.c.sha256)
            .join(aliases, (aliases.c.name == models.c.name) & (aliases.c.version == models.c.version))
            .outerjoin(
                artifacts,
                (artifacts.c.name == models.c.name)
                & (artifacts.c.version == models.c.version)
                & (artifacts.c.format == artifact.FORMAT_BLOB),
            )
            .where(models.c.schema_hash == schema_hash, aliases.c.alias == REFERENCE)
            .order_by(aliases.c.changed_ms.desc())
            .limit(1)
        )
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise Unusable(
                f"no model for features {schema_hash} is the reference: "
                f"`edgewise model promote NAME VERSION --alias {REFERENCE}`"
            )
        if row.sha256 is None:
            raise Unusable(f"{row.name} {row.version} has no table blob: export it as one and publish that too")
        found = await self._load(row.name, row.version, row.sha256)
        if isinstance(found, str):
            raise Unusable(found)
        return found

    async def _load(self, name: str, version: str, digest: str) -> Reference | str:
        if digest in self._loaded:
            self._loaded.move_to_end(digest)
            return self._loaded[digest]
        found: Reference | str
        try:
            _, manifest, golden, payload = artifact.split(await self._blobs.get(digest))
            scores = gaussian if table.kind_of(payload) == table.GAUSSIAN else forest
            scorer = scores.Scorer(payload)
            _self_test(scorer, manifest, golden)
        except (BlobMissing, BlobCorrupt, Unavailable) as error:
            return f"{name} {version} cannot be read: {error}"  # not kept: a restored blob counts at once
        except (artifact.ArtifactError, table.TableError, Unusable) as error:
            found = f"{name} {version} cannot be used: {error}"
        else:
            found = Reference(name, version, bytes.fromhex(digest)[:8], scorer)
        self._loaded[digest] = found
        if len(self._loaded) > _MAX_LOADED:
            self._loaded.popitem(last=False)
        return found


def _self_test(scorer: Scorer, manifest: artifact.Manifest, golden: bytes) -> None:
    """Holds the scorer against the publisher's golden vectors; raises Unusable."""
    if scorer.n_features != manifest.n_features:
        raise Unusable(f"it takes {scorer.n_features} features, its manifest says {manifest.n_features}")
    form = f"<{manifest.n_features}if"
    for number, (*features, expected) in enumerate(struct.iter_unpack(form, golden)):
        score, anomalous = scorer.score(features)
        if abs(score - expected) > manifest.tolerance or anomalous != (expected > manifest.threshold):
            raise Unusable(f"golden vector {number} scores {score:.6g}, not {expected:.6g}")
