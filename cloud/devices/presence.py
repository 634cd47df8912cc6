"""Is a board there, asleep as announced, or lost? Once in Python and once in SQL, which a test holds together."""

from typing import Any, Literal

import sqlalchemy as sa

Presence = Literal["new", "online", "sleeping", "lost"]

# A board that never said when it comes back gets this long, and every board some slack for clocks and a busy link.
_UNANNOUNCED_MS = 15 * 60_000
_SLACK_MS = 60_000
_SLACK_PART = 2  # of the interval: half of it


def expected_contact_ms(last_seen_ms: int | None, announced_ms: int | None) -> int | None:
    """Until when a sleeping board has to be heard from, unix ms; None for one that never was.

    `announced_ms` is how long after `last_seen_ms` it promised to come back at the latest (HEALTH.next_contact_ms);
    None or 0 when it did not say.
    """
    if last_seen_ms is None:
        return None
    interval = announced_ms or _UNANNOUNCED_MS
    return last_seen_ms + interval


def presence(now_ms: int, online: bool, last_seen_ms: int | None, announced_ms: int | None) -> Presence:
    """`new` before the first contact, `online` in session, `sleeping` within what it announced, else `lost`."""
    expected = expected_contact_ms(last_seen_ms, announced_ms)
    if last_seen_ms is None or expected is None:
        return "new"
    if online:
        return "online"
    slack = max(_SLACK_MS, (expected - last_seen_ms) // _SLACK_PART)
    return "sleeping" if now_ms <= expected + slack else "lost"


def presence_is(
    state: Presence,
    now_ms: int,
    online: sa.ColumnElement[bool],
    last_seen_ms: sa.ColumnElement[int | None],
    announced_ms: sa.ColumnElement[Any],
) -> sa.ColumnElement[bool]:
    """The condition that `presence` of these columns is `state`."""
    if state == "new":
        return last_seen_ms.is_(None)
    if state == "online":
        return last_seen_ms.is_not(None) & online
    interval = sa.func.coalesce(sa.func.nullif(announced_ms, 0), _UNANNOUNCED_MS)
    slack = sa.case((interval // _SLACK_PART > _SLACK_MS, interval // _SLACK_PART), else_=_SLACK_MS)
    in_time = last_seen_ms + interval + slack >= now_ms
    return last_seen_ms.is_not(None) & ~online & (in_time if state == "sleeping" else ~in_time)
