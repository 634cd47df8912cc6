"""Asleep as announced, or lost."""

import pytest

from cloud.devices.presence import presence

NOW = 1_000_000_000
MINUTE = 60_000


@pytest.mark.parametrize(
    ("online", "last_seen_ms", "announced_ms", "expected"),
    [
        (False, None, None, "new"),
        (True, None, None, "new"),
        (True, NOW, None, "online"),
        (True, NOW - 60 * MINUTE, 10 * MINUTE, "online"),  # the broker still has its session
        (False, NOW - MINUTE, 10 * MINUTE, "sleeping"),
        (False, NOW - 14 * MINUTE, 10 * MINUTE, "sleeping"),  # late, but within half an interval
        (False, NOW - 16 * MINUTE, 10 * MINUTE, "lost"),
        (False, NOW - 65_000, 10_000, "sleeping"),  # a minute of slack at least
        (False, NOW - 75_000, 10_000, "lost"),
        (False, NOW - 20 * MINUTE, None, "sleeping"),  # it never said when it comes back
        (False, NOW - 30 * MINUTE, 0, "lost"),
    ],
)
def test_presence(online: bool, last_seen_ms: int | None, announced_ms: int | None, expected: str) -> None:
    assert presence(NOW, online, last_seen_ms, announced_ms) == expected
