"""What a board does next, as pure functions over tables: nothing here reads a clock, a sensor or a random number.

All state goes in and comes out as plain integers, so that it lives in RTC memory. `jitter` is a random number of 0 to
65535 that the caller draws. Times are ms of the board's clock, which deep sleep does not stop. The same tables drive a
board, the simulator and the replay of a recorded trace, and PROTOCOL.md does not depend on them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    Breaker = tuple[int, int, int]  # state, failures in a row, when the next attempt is allowed

JITTER_RANGE = 65536

# Battery bands. A band is left downwards at its lower bound, and entered upwards _HYSTERESIS_MV above it, so that the
# sag of a radio session does not make the board change its mind twice.
BAND_EMPTY = 0
BAND_LOW = 1
BAND_FAIR = 2
BAND_FULL = 3
BAND_NAMES = ("empty", "low", "fair", "full")
_LOWER_BOUND_MV = (0, 3300, 3500, 3700)  # one lithium cell under load
_HYSTERESIS_MV = 60


def battery_band(battery_mv: int, band: int) -> int:
    """The band after a measurement, given the one before. 0 mV means there is no battery: BAND_FULL."""
    if battery_mv == 0:
        return BAND_FULL
    while band > BAND_EMPTY and battery_mv < _LOWER_BOUND_MV[band]:
        band -= 1
    while band < BAND_FULL and battery_mv >= _LOWER_BOUND_MV[band + 1] + _HYSTERESIS_MV:
        band += 1
    return band


# Sync. What each battery band allows: how much longer scheduled sessions wait, how full the ring gets before a session
# is worth it (per cent), frames of one session.
SYNC_NONE = 0
SYNC_EVENT = 1  # an event waits
SYNC_WINDOW = 2  # a scheduled session is due
SYNC_ROOM = 3  # the ring is nearly full
SYNC_NAMES = ("none", "event", "window", "room")

BANDS = (
    # interval factor, ring full at, frames per session
    (12, 100, 8),  # empty: events only, and a sign of life now and then
    (4, 95, 24),  # low
    (1, 85, 64),  # fair
    (1, 75, 255),  # full
)
_FEWEST_FRAMES = 2  # of a session over the worst link: one would never catch up


def sync_reason(
    now_ms: int, next_sync_ms: int, events: int, ring_percent: int, band: int, breaker: "Breaker", tokens_milli: int
) -> int:
    """Whether to begin a session now, and why (SYNC_*).

    `events`: events and questions that wait; `ring_percent`: how full the ring of readings is. The breaker and an
    empty token bucket hold back every session.
    """
    if not breaker_allows(breaker, now_ms) or tokens_milli < MILLI:
        return SYNC_NONE
    if events:
        return SYNC_EVENT
    if now_ms >= next_sync_ms:
        return SYNC_WINDOW
    if ring_percent >= BANDS[band][1]:
        return SYNC_ROOM
    return SYNC_NONE


def next_sync_ms(now_ms: int, interval_ms: int, band: int, jitter: int) -> int:
    """When the next scheduled session begins: the band's interval, spread over 7/8 to 9/8 of it."""
    interval_ms *= BANDS[band][0]
    return now_ms + interval_ms - interval_ms // 8 + interval_ms // 4 * jitter // JITTER_RANGE


def frames_per_session(band: int, link_quality: int) -> int:
    """How many frames to send at most, by battery band and link quality (0 to 255, share of sessions that worked)."""
    return max(_FEWEST_FRAMES, BANDS[band][2] * link_quality // 255)


# Selective upload: what is recorded of a window as READINGS. Features go with EVENT and QUERY in any case.
UPLOAD_ALL = 0  # every sample
UPLOAD_EVENTS = 1  # one row with the mean of each channel; every sample around an event, and on request
UPLOAD_ASKED = 2  # one row with the mean of each channel; every sample on request
AROUND_EVENT = 2  # windows: that of the event and the one after
MAX_RAW_WINDOWS = 60  # of one request


def records_raw(upload: int, told: bool, raw_windows: int) -> "tuple[bool, int]":
    """(whether this window is recorded sample by sample, how many after it are). `told`: it made an EVENT."""
    if upload == UPLOAD_ALL:
        return True, 0
    if told and upload == UPLOAD_EVENTS:
        raw_windows = max(raw_windows, AROUND_EVENT)
    return raw_windows > 0, max(0, raw_windows - 1)


# Backoff and circuit breaker. Failures in a row make the board wait longer each time; from the third on the breaker is
# open, which routing and the simulator can see. When the wait is over one session is the trial.
BREAKER_CLOSED = 0
BREAKER_OPEN = 1
BREAKER_HALF_OPEN = 2
BREAKER_NAMES = ("closed", "open", "half open")

_FIRST_BACKOFF_MS = 4000
_MAX_BACKOFF_MS = 4 * 3600 * 1000
_MAX_DOUBLINGS = 12
_OPEN_AFTER = 3
_MAX_FAILURES = 255

BEGIN = 0  # a session begins
SUCCESS = 1  # ... has worked
FAILURE = 2  # ... has failed
BREAKER_TABLE = {
    # (state, what happens): state after it; a failure while closed opens only at _OPEN_AFTER failures in a row
    (BREAKER_CLOSED, BEGIN): BREAKER_CLOSED,
    (BREAKER_CLOSED, SUCCESS): BREAKER_CLOSED,
    (BREAKER_CLOSED, FAILURE): BREAKER_OPEN,
    (BREAKER_OPEN, BEGIN): BREAKER_HALF_OPEN,
    (BREAKER_OPEN, SUCCESS): BREAKER_CLOSED,  # a session that outlived the power loss of its bookkeeping
    (BREAKER_OPEN, FAILURE): BREAKER_OPEN,
    (BREAKER_HALF_OPEN, BEGIN): BREAKER_HALF_OPEN,
    (BREAKER_HALF_OPEN, SUCCESS): BREAKER_CLOSED,
    (BREAKER_HALF_OPEN, FAILURE): BREAKER_OPEN,
}

NEW_BREAKER = (BREAKER_CLOSED, 0, 0)


def backoff_ms(failures: int, jitter: int) -> int:
    """How long to wait after `failures` failed sessions in a row (1 or more): doubled each time, half of it random."""
    longest = min(_MAX_BACKOFF_MS, _FIRST_BACKOFF_MS << min(failures - 1, _MAX_DOUBLINGS))
    return longest // 2 + longest // 2 * jitter // JITTER_RANGE


def breaker_allows(breaker: "Breaker", now_ms: int) -> bool:
    """Whether a session may begin. A wait that lies further ahead than any backoff is a clock that was set back."""
    until_ms = breaker[2]
    return now_ms >= until_ms or until_ms - now_ms > _MAX_BACKOFF_MS


def breaker_after(breaker: "Breaker", happening: int, now_ms: int, jitter: int = 0) -> "Breaker":
    """The breaker after BEGIN, SUCCESS or FAILURE of a session; `jitter` is of use for a failure only."""
    state, failures, until_ms = breaker
    after = BREAKER_TABLE[(state, happening)]
    if happening == BEGIN:
        return after, failures, until_ms
    if happening == SUCCESS:
        return after, 0, 0
    failures = min(failures + 1, _MAX_FAILURES)
    if state == BREAKER_CLOSED and failures < _OPEN_AFTER:
        after = BREAKER_CLOSED
    return after, failures, now_ms + backoff_ms(failures, jitter)


def breaker_restored(failures: int, now_ms: int, jitter: int) -> "Breaker":
    """The breaker of a board that remembers its failures in a row and not when they were: the wait begins anew."""
    if not failures:
        return NEW_BREAKER
    state = BREAKER_OPEN if failures >= _OPEN_AFTER else BREAKER_CLOSED
    return state, failures, now_ms + backoff_ms(failures, jitter)


# Token bucket, in thousandths of a session
MILLI = 1000


def refill(tokens_milli: int, filled_ms: int, now_ms: int, per_hour: int, capacity: int) -> "tuple[int, int]":
    """(tokens_milli, filled_ms) at `now_ms`: `per_hour` sessions an hour flow in, up to `capacity` sessions.

    What is less than a thousandth waits in `filled_ms`. A clock that was set back starts the bucket's clock anew.
    """
    if now_ms <= filled_ms:
        return tokens_milli, now_ms
    gained = (now_ms - filled_ms) * per_hour // 3600
    if tokens_milli + gained >= capacity * MILLI:
        return capacity * MILLI, now_ms
    if not per_hour:
        return tokens_milli, now_ms
    return tokens_milli + gained, filled_ms - (-gained * 3600 // per_hour)  # rounded up: no token twice


# Dead-band: report by exception, with a heartbeat


def hold_back(
    values: "MutableSequence[int]",
    reported: "MutableSequence[int]",
    quiet_rows: "MutableSequence[int]",
    dead_bands: "Sequence[int]",
    heartbeat_rows: int,
) -> bool:
    """Puts the last reported value in place of each one that is within its dead-band; True if the row says something.

    All are (cols,); `values`, `reported` and `quiet_rows` are changed in place. A channel is reported as it is when it
    leaves its dead-band, and after `heartbeat_rows` (1 to 255) quiet rows even if it did not.
    """
    news = False
    for channel in range(len(values)):
        value = values[channel]
        quiet = quiet_rows[channel] + 1
        if abs(value - reported[channel]) > dead_bands[channel] or quiet >= heartbeat_rows:
            reported[channel] = value
            quiet_rows[channel] = 0
            news = True
        else:
            values[channel] = reported[channel]
            quiet_rows[channel] = quiet
    return news
