"""What each cause of a wake leads to, as one table, and when the line that wakes the board may wake it again.

Theory of operation. The board says why it woke (wire.WAKE_*). That alone does not decide: the wake line may be a
button, an interrupt of the sensor, or a line that was only let go of. path_of() makes one of the rows of PATHS of it,
and the cycle does what the row says.

The line wakes by level, not by edge: armed while it is active, it would end the sleep at once, again and again. So the
board looks at it last thing (arm_line):

    not active                       armed for its active level
    active                           armed for its release; that wake does nothing but arm it anew
    8 wakes by it, each within a     not armed: it chatters, or what it watches does not stop. The next timer wake
    minute of going to sleep         begins anew, so it costs 8 wakes an interval at most

A latched interrupt that nobody clears is a line that is never released: the timer takes over.
"""

from micropython import const

from contract.wire import WAKE_NAMES, WAKE_PIN, WAKE_TIMER

# What of the sensor
SAMPLE_NEVER = const(0)
SAMPLE_PREPARE = const(1)  # set it up, so that it gathers while the board sleeps; it has nothing to give yet
SAMPLE_DUE = const(2)  # when a whole interval has passed: the board woke for another reason
SAMPLE_ALWAYS = const(3)

# What of the cloud
SYNC_NEVER = const(0)
SYNC_SCHEDULED = const(1)  # as policy.sync_reason() says
SYNC_NOW = const(2)  # a session now, unless breaker or token bucket hold it back

# Two ways to be woken by the line that are no button
PATH_MOTION = len(WAKE_NAMES)
PATH_RELEASED = PATH_MOTION + 1

PATHS = (
    # announced: deep sleep ended as it was meant to, nothing was cut short; otherwise the wake before died, or there
    #   was none: RTC memory is compared with flash, and a model on trial gets a bad mark
    # reset: counts as one, and four in a row lead to safe mode
    # sample, sync: as above; longest_ms: of a session without a download; linger_ms: the session listens on for so
    #   long after its work is done, for changes that somebody makes meanwhile
    # announced, reset, sample, sync, longest_ms, linger_ms
    (False, False, SAMPLE_PREPARE, SYNC_SCHEDULED, 45000, 0),  # cold: no schedule yet, so a session is due
    (True, False, SAMPLE_ALWAYS, SYNC_SCHEDULED, 20000, 0),  # timer
    (True, False, SAMPLE_DUE, SYNC_NOW, 20000, 0),  # pin: a button, somebody is at the board
    (True, False, SAMPLE_DUE, SYNC_NOW, 45000, 3000),  # touch: the same, with hands free to change something
    (True, False, SAMPLE_ALWAYS, SYNC_SCHEDULED, 20000, 0),  # ulp: a threshold was crossed; an event brings a session
    (False, True, SAMPLE_ALWAYS, SYNC_SCHEDULED, 20000, 0),  # watchdog
    # brown-out: the supply gave way, most likely under the radio. Without radio and sensor it has an interval to
    # recover; a session now would do it again
    (False, True, SAMPLE_NEVER, SYNC_NEVER, 0, 0),
    (False, True, SAMPLE_ALWAYS, SYNC_SCHEDULED, 20000, 0),  # soft: machine.reset(), or a panic of native code
    (True, False, SAMPLE_ALWAYS, SYNC_SCHEDULED, 20000, 0),  # motion: the sensor pulled the line
    (True, False, SAMPLE_DUE, SYNC_SCHEDULED, 20000, 0),  # released
)

# How the line is armed
ARM_NONE = const(0)
ARM_ACTIVE = const(1)
ARM_RELEASE = const(2)

_QUICK_MS = const(60000)
_MOST_QUICK = const(8)


class Path:
    """One row of PATHS, by name."""

    def __init__(self, number: int) -> None:
        self.announced, self.reset, self.sample, self.sync, self.longest_ms, self.linger_ms = PATHS[number]


def path_of(cause: int, line: int, sensor_calls: bool) -> int:
    """The row of PATHS for a wake. line: state.wake_line as the board went to sleep; sensor_calls: its interrupt is
    what drives the wake line."""
    if cause != WAKE_PIN:
        return cause
    if line & 3 == ARM_RELEASE:
        return PATH_RELEASED
    return PATH_MOTION if sensor_calls else WAKE_PIN


def line_after_wake(line: int, cause: int, slept_ms: int) -> int:
    """state.wake_line after a wake: the count of quick wakes by the line goes on or begins anew."""
    quick = line >> 2
    if cause == WAKE_PIN:
        quick = min(quick + 1, _MOST_QUICK) if slept_ms < _QUICK_MS else 0
    elif cause == WAKE_TIMER:
        quick = 0
    return line & 3 | quick << 2


def arm_line(line: int, active: bool) -> int:
    """state.wake_line to go to sleep with; `& 3` of it is how to arm the line (ARM_*)."""
    if line >> 2 >= _MOST_QUICK:
        how = ARM_NONE
    else:
        how = ARM_RELEASE if active else ARM_ACTIVE
    return line & ~3 | how
