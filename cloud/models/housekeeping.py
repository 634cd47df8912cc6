"""Taking things out of the registry: versions nobody uses, blobs nothing names."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.errors import Conflict
from cloud.models.blobs import Blobs
from cloud.models.queries import show_version
from cloud.models.tables import assignments, patches
from cloud.models.views import Collected, Version
from cloud.rollouts.queries import users_of
from cloud.store.tables import artifacts, models

# A publish stores its blobs first and names them in the database afterwards: younger ones may still get their row.
_YOUNG_MS = 60 * 60_000


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
    removed: list[str] = []
    total = 0
    # The listing comes first: a blob that gets its row while we list is in the set of names read afterwards.
    stored = [entry async for entry in blobs.entries()]
    async with engine.connect() as connection:
        named: set[str] = set()
        for sha256, manifest in await connection.execute(sa.select(artifacts.c.sha256, artifacts.c.manifest)):
            named |= {sha256, manifest["card_sha256"]}
        made = sa.select(patches.c.patch_sha256).where(patches.c.patch_sha256.is_not(None))
        named |= set((await connection.execute(made)).scalars())
    for entry in stored:
        if entry.sha256 not in named and entry.modified_ms < now_ms() - young_ms:
            await blobs.delete(entry.sha256)
            removed.append(entry.sha256)
            total += entry.size_bytes
    return Collected(removed, total)
