"""When an anomaly is told: at its onset, now and then while it lasts, and at its end.

The state is one byte of RTC memory: 0 when all is calm, else wakes left until the anomaly may be told again (1 to 127),
plus 128 when the last window was calm. A single calm window does not end an alarm, two in a row do, so a score that
wavers about its threshold sends two records and not one each wake.
"""

from micropython import const

from contract.wire import EVENT_ANOMALY, EVENT_CLEARED

REPEAT_WAKES = const(60)
_ONE_CALM = const(0x80)
NOTHING = const(0)


def alarm_after(alarm: int, anomalous: bool) -> tuple:
    """(alarm, what to tell: EVENT_ANOMALY, EVENT_CLEARED or NOTHING) after one more window."""
    if alarm == 0:
        return (REPEAT_WAKES, EVENT_ANOMALY) if anomalous else (0, NOTHING)
    left = (alarm & ~_ONE_CALM) - 1
    if anomalous:
        return (left, NOTHING) if left > 0 else (REPEAT_WAKES, EVENT_ANOMALY)
    if alarm & _ONE_CALM:
        return 0, EVENT_CLEARED
    return max(left, 1) | _ONE_CALM, NOTHING
