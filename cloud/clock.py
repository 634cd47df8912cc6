"""The cloud's clock."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def time_text(ms: float, form: str) -> str:
    """A time in UTC by a form of strftime; one beyond the calendar, as a board's clock may give, in milliseconds."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return f"{ms:.0f} ms"
