"""Taking things out of the registry: versions nobody uses, blobs nothing names."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.errors import Conflict
from cloud.models.blobs import Blobs, Entry
from cloud.models.queries import show_version
from cloud.models.tables import assignments, patches
from cloud.models.views import Collected, Version
from cloud.rollouts.queries import users_of
from cloud.store.engine import writing
from cloud.store.tables import artifacts, models

# A publish stores its blobs first and names them in the database afterwards: younger ones may still get their row.
_YOUNG_MS = 60 * 60_000
_AT_ONCE = 50  # deleted in one turn of writing


async def delete_version(connection: AsyncConnection, name: str, version: str) -> Version:
    """Removes a version and its artifacts. Raises NotFound, or Conflict naming who uses it."""
    detail = await show_version(connection, name, version)
    users = [f"alias {alias}" for alias in detail.summary.aliases]
    pinned = sa.select(assignments.c.device).where(assignments.c.name == name, assignments.c.version == version)
    users += [f"{device} is pinned to it" for device in (await connection.execute(pinned)).scalars()]
    users += [f"{device} is told to run it" for device in detail.wanted]
    users += [f"{device} runs it" for device in detail.running]
    users += [f"rollout {rollout}" for rollout in await users_of(connection, name, version)]
    if users:
        more = f" and {len(users) - 3} more" if len(users) > 3 else ""
        raise Conflict(
            f"{name} {version} is in use: {', '.join(users[:3])}{more}", "move them to another version first"
        )
    await connection.execute(sa.delete(artifacts).where(artifacts.c.name == name, artifacts.c.version == version))
    await connection.execute(sa.delete(models).where(models.c.name == name, models.c.version == version))
    return detail.summary


async def collect(engine: AsyncEngine, blobs: Blobs, young_ms: int = _YOUNG_MS) -> Collected:
    """Deletes blobs that are neither an artifact nor the card of one, but for those younger than `young_ms`."""
    old_ms = now_ms() - young_ms
    async with engine.connect() as connection:
        named = await _named(connection)
    unnamed = [e async for e in blobs.entries() if e.sha256 not in named and e.modified_ms < old_ms]
    removed: list[Entry] = []
    for at in range(0, len(unnamed), _AT_ONCE):
        # Bytes of old that are published again are found stored and get their row now. That and this take turns.
        async with writing(engine).begin() as connection:
            named = await _named(connection)
            for entry in unnamed[at : at + _AT_ONCE]:
                if entry.sha256 not in named:
                    await blobs.delete(entry.sha256)
                    removed.append(entry)
    return Collected([entry.sha256 for entry in removed], sum(entry.size_bytes for entry in removed))


async def _named(connection: AsyncConnection) -> set[str]:
    """The blobs that rows name."""
    named: set[str] = set()
    for sha256, manifest in await connection.execute(sa.select(artifacts.c.sha256, artifacts.c.manifest)):
        named |= {sha256, manifest["card_sha256"]}
    made = sa.select(patches.c.patch_sha256).where(patches.c.patch_sha256.is_not(None))
    return named | set((await connection.execute(made)).scalars())
