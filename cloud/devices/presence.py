"""Is a board there, asleep as announced, or lost? Pure."""

from typing import Literal

Presence = Literal["new", "online", "sleeping", "lost"]

# A board that never said when it comes back gets this long, and every board some slack for clocks and a busy link.
_UNANNOUNCED_MS = 15 * 60_000
_SLACK_MS = 60_000
_SLACK_SHARE = 0.5


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
    slack = max(_SLACK_MS, int((expected - last_seen_ms) * _SLACK_SHARE))
    return "sleeping" if now_ms <= expected + slack else "lost"
