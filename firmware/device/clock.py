"""The board's clock across deep sleep: one monotonic count of milliseconds, checked at every wake.

Theory of operation. Board.now_ms() reads the RTC timer once per wake and adds ticks to it, so nothing that happens to
the RTC while the board is awake reaches a record. Between two wakes the RTC is all there is. It is believed when it has
advanced by a plausible time since RTC memory was stored: not backwards, and by no more than the sleep the board asked
for. Otherwise the sleep is taken to have lasted just that, and every moment that RTC memory remembers is moved by the
difference, so ages and records go on without a jump. The cloud pairs the clocks anew at the next HELLO, which a jump
makes due.

ticks_ms wraps after 12 days on an ESP32 (2**30 ms) and the count behind it after 49.7; ticks_diff is right for half of
that. A wake lasts seconds, and the RTC's 64 bits of microseconds do not wrap.
"""

from micropython import const

_SLACK_MS = const(600000)  # over the sleep: a slow boot, a watchdog reset; drift is the 1/16 beside it

# The fields of RTC memory that hold a moment of this clock; 0 is "never".
MOMENTS = (
    "began_ms",
    "stored_ms",
    "next_sync_ms",
    "contact_ms",
    "hello_ms",
    "breaker_until_ms",
    "tokens_ms",
    "health_ms",
)


def jump_of(now_ms: int, stored_ms: int, sleep_ms: int) -> int:
    """By how much the clock jumped since RTC memory was stored, in ms; 0 when its advance is plausible.

    sleep_ms: what the board asks for when it goes to sleep; another cause may end a sleep early, nothing late.
    """
    advance_ms = now_ms - stored_ms
    if 0 <= advance_ms <= sleep_ms + sleep_ms // 16 + _SLACK_MS:
        return 0
    return advance_ms - sleep_ms


def compensate(state: object, jump_ms: int) -> None:
    """Move every moment in RTC memory (rtc_state.RtcState) along with the clock, and make a HELLO due."""
    for name in MOMENTS:
        moment_ms = getattr(state, name)
        if moment_ms:
            setattr(state, name, max(1, moment_ms + jump_ms))
    state.hello_ms = 0
