"""In what two versions of a model differ, down to the trees of a forest."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.models.blobs import Blobs
from cloud.models.queries import show_version
from cloud.models.views import Difference, VersionDetail
from contract import artifact
from contract.table import Forest, TableError


async def diff(connection: AsyncConnection, blobs: Blobs, name: str, before: str, after: str) -> list[Difference]:
    """Manifests by target, the trees that two table blobs share, then the cards, keys as dotted paths.

    Raises NotFound.
    """
    old, new = await show_version(connection, name, before), await show_version(connection, name, after)
    facts, others = _flat(old), _flat(new)
    for target in sorted(_blobs_of(old).keys() & _blobs_of(new).keys()):
        ours = await _trees(blobs, _blobs_of(old)[target])
        theirs = await _trees(blobs, _blobs_of(new)[target])
        if ours and theirs:
            kept = [tree for tree in theirs if tree in set(ours)]
            facts[f"{target}.trees"], others[f"{target}.trees"] = len(ours), len(theirs)
            facts[f"{target}.trees kept"] = len(ours)
            others[f"{target}.trees kept"] = len(kept)
            facts[f"{target}.bytes of new trees"] = 0
            others[f"{target}.bytes of new trees"] = sum(map(len, theirs)) - sum(map(len, kept))
    return _differences(facts, others)


def _target(arch: str, form: str, rung: int) -> str:
    return f"{arch} {form}" + (f" rung {rung}" if rung else "")


def _blobs_of(detail: VersionDetail) -> dict[str, str]:
    """Target in words -> SHA-256 of each artifact that is a table."""
    return {
        _target(item.arch, item.format, item.manifest.get("rung", 0)): item.sha256
        for item in detail.artifacts
        if item.format == artifact.FORMAT_BLOB
    }


async def _trees(blobs: Blobs, sha256: str) -> list[bytes]:
    """The bytes of each tree; none for a table that is no forest."""
    _, _, _, payload = artifact.split(await blobs.get(sha256))
    try:
        return [bytes(payload[start:end]) for start, end in Forest(payload).spans()]
    except TableError:
        return []


def _flat(detail: VersionDetail) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for item in detail.artifacts:
        target = _target(item.arch, item.format, item.manifest.get("rung", 0))
        flat[f"{target}.size"] = item.size
        for key, value in item.manifest.items():
            flat[f"{target}.{key}"] = value
    _flatten("card", detail.card, flat)
    return flat


def _flatten(path: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            _flatten(f"{path}.{key}", inner, into)
    else:
        into[path] = value


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    keys = sorted(old.keys() | new.keys())
    return [Difference(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]
