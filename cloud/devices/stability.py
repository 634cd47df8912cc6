"""Does a board see what its model was trained on? The population stability index of the bins it counts in.

PSI = sum over bins of (o - e) ln(o / e), o the share of windows counted and e that of training windows: the symmetric
form of the Kullback-Leibler divergence (H. Jeffreys, "An invariant form for the prior probability in estimation
problems", Proc. R. Soc. A 186, 1946), named so and read as 0.1 "look" and 0.25 "changed" in N. Siddiqi, Credit Risk
Scorecards, Wiley 2006. Without a change its n windows give about chi-square with bins - 1 degrees of freedom, divided
by n (B. Yurdakul, J. Naranjo, "Statistical properties of the population stability index", J. Risk Model Validation 14,
2020); what chance reaches once in a thousand is taken for no change, whatever its size. Windows of one machine depend
on each other, so that few of them say less than this takes them to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices import views
from cloud.models import manifests
from cloud.store.tables import artifacts, health
from contract import profile
from contract.features import Features

LOOK, CHANGED = 0.1, 0.25
RECORDS = 48
"""The newest HEALTH records of a board that are counted together."""
RECORDS_OF_BOARDS = 2000
"""And those of many boards."""

_Profile = tuple[str, list[int], int, list[int]]  # health.profile, see cloud/store/tables.py

_CHUNK = 400
_LEAST_WINDOWS = 64
_LEAST_SHARE = 0.001  # of a bin that was empty in training
_SURE = 3.09  # standard deviations that chance exceeds once in a thousand


def index(counts: Sequence[int], shares: Sequence[int]) -> float:
    """PSI of counted windows against training shares, in any unit; 0 for no windows.

    Half a window is added to each bin, so that an empty one has a logarithm.
    """
    windows = sum(counts)
    if windows == 0:
        return 0.0
    expected = [max(share / sum(shares), _LEAST_SHARE) for share in shares]
    total = 0.0
    for counted, share in zip(counts, expected, strict=True):
        observed = (counted + 0.5 * share * len(counts)) / (windows + 0.5 * sum(expected) * len(counts))
        total += (observed - share / sum(expected)) * math.log(observed / (share / sum(expected)))
    return total


def chance(bins: int, windows: int) -> float:
    """The index that unchanged data exceed once in a thousand; the quantile of chi-square by E. B. Wilson and M. M.
    Hilferty, "The distribution of chi-square", Proc. Natl. Acad. Sci. 17, 1931."""
    freedom = bins - 1
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + _SURE * math.sqrt(spread)) ** 3 / windows


def judged(counts: Sequence[int], shares: Sequence[int]) -> tuple[float, str]:
    """The index and a word: `few windows`, `stable`, `look` or `changed`."""
    windows = sum(counts)
    value = index(counts, shares)
    if windows < _LEAST_WINDOWS:
        return value, "few windows"
    if value <= max(LOOK, chance(len(counts), windows)):
        return value, "stable"
    return value, "changed" if value > CHANGED else "look"


async def of_device(connection: AsyncConnection, device: str) -> views.Stability | None:
    """The stability of the model a board counted for last, None when it never did or the model is not known here."""
    found = await _profiles(connection, health.c.device == device, RECORDS)
    return await _of_model(connection, found[0][0], found) if found else None


async def of_boards(connection: AsyncConnection, devices: Sequence[str], since_ms: int) -> list[views.Stability]:
    """Of each artifact that the boards counted for since then, all of them together; by name and version."""
    found: list[_Profile] = []
    for at in range(0, len(devices), _CHUNK):
        among = health.c.device.in_(devices[at : at + _CHUNK]) & (health.c.received_ms >= since_ms)
        found += await _profiles(connection, among, RECORDS_OF_BOARDS - len(found))
    models = [await _of_model(connection, sha8, found) for sha8 in dict.fromkeys(record[0] for record in found)]
    return sorted((model for model in models if model is not None), key=lambda m: (m.name, m.version, m.model_sha8))


async def _profiles(connection: AsyncConnection, which: sa.ColumnElement[bool], limit: int) -> list[_Profile]:
    """The newest first."""
    query = (
        sa.select(health.c.profile)
        .where(which, health.c.profile.is_not(None))
        .order_by(health.c.received_ms.desc(), health.c.epoch.desc(), health.c.seq.desc())
        .limit(max(0, limit))
    )
    return [(row[0], row[1], row[2], row[3]) for row in (await connection.execute(query)).scalars()]


async def _of_model(connection: AsyncConnection, sha8: str, found: Sequence[_Profile]) -> views.Stability | None:
    query = sa.select(artifacts.c.manifest).where(artifacts.c.sha256.startswith(sha8)).limit(1)
    fields = (await connection.execute(query)).scalar_one_or_none()
    if fields is None:
        return None
    manifest = manifests.from_json(fields)
    if not manifest.bins:
        return None
    records = [record for record in found if record[0] == sha8]
    scores = _sum([record[1] for record in records], profile.SCORE_BINS)
    value, word = judged(scores, manifest.shares[: profile.SCORE_BINS])
    return views.Stability(
        model_sha8=sha8,
        name=manifest.name,
        version=manifest.version,
        records=len(records),
        windows=sum(scores),
        index=value,
        word=word,
        scores=scores,
        features=_features(Features(manifest.schema).names, manifest.shares, profile.profiled(manifest.bins), records),
    )


def _features(
    names: Sequence[str], shares: bytes, profiled: int, records: Sequence[_Profile]
) -> list[views.FeatureStability]:
    """Those that were counted, the strangest first."""
    counted: dict[int, list[list[int]]] = {}
    for _, _, first, counts in records:
        for at in range(min(len(counts) // profile.FEATURE_BINS, profiled - first)):
            begin = at * profile.FEATURE_BINS
            counted.setdefault(first + at, []).append(counts[begin : begin + profile.FEATURE_BINS])
    found: list[views.FeatureStability] = []
    for feature, parts in counted.items():
        counts = _sum(parts, profile.FEATURE_BINS)
        if sum(counts):
            at = profile.SCORE_BINS + profile.FEATURE_BINS * feature
            value, word = judged(counts, shares[at : at + profile.FEATURE_BINS])
            found.append(views.FeatureStability(names[feature], sum(counts), value, word, counts))
    return sorted(found, key=lambda feature: -feature.index)


def _sum(parts: Sequence[Sequence[int]], bins: int) -> list[int]:
    """Bin by bin; a record of another number of bins than this contract's is left out."""
    return [sum(part[at] for part in parts if len(part) == bins) for at in range(bins)]
