"""The story of a wake: wake -> sample -> features -> score -> route -> buffer -> maybe sync -> sleep.

run() is the whole of it; everything a step needs is in Parts, which main.py puts together. What is kept across deep
sleep is in RTC memory (parts.state) and on flash; nothing else survives.
"""

from array import array

from micropython import const

from contract import policy
from contract.wire import (
    EVENT,
    EVENT_BOOT_LOOP,
    FAULT_CLOCK,
    FAULT_RTC,
    READINGS,
    ROUTE_DEVICE,
    STREAMS,
    WAKE_COLD,
    WHY_CLEAR,
)
from device import clock, rtc_layout, rtc_state, wakes
from device.sampler import Sampler

_SAFE_MODE_RESETS = const(4)  # resets in a row after which only syncing and updating are tried
_LEAST_SLEEP_MS = const(50)
_RANK = STREAMS.index(READINGS)
_RING_BYTES = rtc_layout.RTC_BYTES - rtc_layout.RING_AT


class Parts:
    """What a wake works with; main.py makes one. `now_ms` of board is the only clock."""

    def __init__(self, **parts: object) -> None:
        for name in parts:
            setattr(self, name, parts[name])
        self.cause = WAKE_COLD
        self.path = wakes.Path(WAKE_COLD)  # what this wake does, see wakes.py
        self.sampled = False  # a window was taken in this wake
        self.window = None  # (verdict, features) of this wake's window until it is settled, see verdict.py
        self.answer = None  # what a higher tier said of it
        self.told = False  # this wake made an EVENT
        self.urgent = False  # a question waits that is of use only now
        self.more = False  # the last session left records behind
        self.radio_ms = 0  # with the radio on in this wake
        self.clean = True  # no step of this wake failed
        self.shadow = None  # shadow.Shadow where the board has, or shall have, a shadow model
        self.slept_ms = 0

    def now_s(self) -> int:
        """Unix time in seconds by the cloud's clock, 0 while it is not known."""
        offset_ms = self.state.cloud_offset_ms
        return (offset_ms + self.journal.now_ms()) // 1000 if offset_ms else 0


def run(parts: Parts) -> None:
    """One wake, from the first line to deep sleep; never returns.

    A step that fails is counted and ends its part of the story: without a reading the board still syncs, without a
    session it still sleeps, and whatever happened it wakes again.
    """
    postponed = None
    try:
        wake(parts)
        if update_model(parts):
            sleep(parts, at_once=True)
        detector = choose_detector(parts)
        if parts.path.sample == wakes.SAMPLE_PREPARE:
            parts.open_sampler()
        elif may_sample(parts):
            sampler = sample(parts)
            features = compute_features(parts, sampler)
            verdict = score(parts, detector, features)
            said = verdict.sha8, verdict.anomalous  # by the model itself, whatever the last word will be
            record_verdict(parts, features, verdict)
            if parts.window is None or parts.config["upload"] == policy.UPLOAD_ALL:
                buffer(parts, sampler)
            else:  # how its window is recorded hangs on the answer
                postponed = sampler
            if parts.shadow:
                _shadow().compare(parts, features, *said)
    except Exception as error:  # noqa: BLE001 - whatever it is, a board that does not sleep is dead in a day
        parts.clean = False
        parts.health.fault(error)
    try:
        why = sync_reason(parts)
        if why != policy.SYNC_NONE:
            detector = sampler = None  # what has done its work makes room for the session
            parts.updater.unload()
            parts.hold_session(parts)
        if parts.window is not None:
            _verdict().settle(parts)
        if postponed is not None:
            buffer(parts, postponed)
        elif parts.journal.waiting:
            parts.journal.keep()
    except Exception as error:  # noqa: BLE001 - as above
        parts.health.fault(error)
    sleep(parts)


def wake(parts: Parts) -> None:
    """Find out what is remembered, how long the sleep was, and whether anybody asked for this wake."""
    board, state = parts.board, parts.state
    parts.cause = cause = board.wake_cause()
    found = state.load(parts.config.first_epoch)
    parts.outbox.open()
    if found == rtc_state.REBUILT:
        state.link_quality = 255  # nothing is known against the link
        _breaker().restore(parts)
        if cause != WAKE_COLD:
            parts.health.count(FAULT_RTC)
    else:
        jump_ms = clock.jump_of(board.now_ms(), state.stored_ms, parts.config["interval_ms"])
        if jump_ms:
            clock.compensate(state, jump_ms)
            parts.health.count(FAULT_CLOCK)
        parts.slept_ms = max(0, board.now_ms() - state.stored_ms)
    parts.path = path = wakes.Path(wakes.path_of(cause, state.wake_line, parts.config.sensor_calls))
    state.wake_line = wakes.line_after_wake(state.wake_line, cause, parts.slept_ms)
    if not path.announced:
        state.reconcile(parts.outbox)
    if path.reset:
        state.resets = min(state.resets + 1, 0xFFFF)
        state.boot_loops = min(state.boot_loops + 1, 255)
        if state.boot_loops == _SAFE_MODE_RESETS:
            parts.journal.event(EVENT_BOOT_LOOP, _verdict().Verdict(0.0, 0.0, ROUTE_DEVICE, WHY_CLEAR), bytes(8), ())
        parts.journal.keep()  # should this wake end like the one before, it counts
    if path.sync == wakes.SYNC_NOW:
        state.next_sync_ms = board.now_ms()
    state.wakes += 1
    state.health_wakes += 1
    state.battery_band = policy.battery_band(board.battery_mv(), state.battery_band)
    parts.updater.start(path.announced)
    if state.shadow[0] != rtc_state.SHADOW_NONE:
        torn = found == rtc_state.REBUILT and cause != WAKE_COLD
        _shadow().wake(parts, not path.announced and (torn or state.shadow[0] == rtc_state.SHADOW_RUNS))


def update_model(parts: Parts) -> bool:
    """Go on with a model that has been downloaded: verify, test, arm. True when there was something to do.

    It needs much of the heap, in pieces that nothing puts together again, so the board then starts anew.
    """
    before = parts.updater.state
    while parts.updater.step(parts.now_s()):
        parts.board.watchdog_feed()
    if parts.updater.state != before:
        return True
    return parts.shadow is not None and _shadow().step(parts)


def choose_detector(parts: Parts) -> object:
    """The active model, or the limits that every board has; None in safe mode, which the model may have led to."""
    updater = parts.updater
    if parts.state.boot_loops >= _SAFE_MODE_RESETS:
        return None
    switched, before = updater.switched, updater.model
    detector = updater.load(not parts.path.announced)
    if switched or updater.model is not before:
        parts.state.hello_ms = 0  # the cloud does not know yet
    return detector or _verdict().safe_model(parts)


def may_sample(parts: Parts) -> bool:
    """Whether this wake takes a window: what its path says, and never while resets follow each other."""
    sample = parts.path.sample
    if sample < wakes.SAMPLE_DUE or parts.state.boot_loops >= _SAFE_MODE_RESETS:
        return False
    return sample == wakes.SAMPLE_ALWAYS or due_ms(parts) <= parts.board.woke_ms


def due_ms(parts: Parts) -> int:
    """When the next window is due, on the board's clock; a board that has recorded none yet begins now."""
    state = parts.state
    if state.last_t_ms == 0:
        return parts.board.woke_ms
    return state.began_ms + state.last_t_ms + parts.config["interval_ms"]


def sample(parts: Parts) -> Sampler:
    """The window that the sensor has gathered since the last wake."""
    state = parts.state
    sampler = parts.open_sampler()
    # The number of a sample is its row's sequence number, or goes by wakes where rows are not recorded.
    recorded = parts.config["upload"] == policy.UPLOAD_ALL and not parts.config["sensitive"]
    first = state.next_seq[_RANK] if recorded else state.wakes * sampler.rows
    woke_ms = parts.board.woke_ms - state.began_ms
    elapsed_ms = woke_ms - state.last_t_ms if state.last_t_ms else None
    sampler.take(first, elapsed_ms, woke_ms, parts.journal.now_ms)
    parts.sampled = True
    return sampler


def compute_features(parts: Parts, sampler: Sampler) -> array:
    """int32 (n_features,) of the window, as measured: dead-bands come later."""
    features = array("i", [0] * parts.features.n_features)
    parts.features.compute_into(sampler.window, features)
    return features


def score(parts: Parts, detector: object, features: array) -> object:
    """Score the window and decide who has the last word on it: a verdict.Verdict."""
    return _verdict().score(parts, detector, features)


def record_verdict(parts: Parts, features: array, verdict: object) -> None:
    """Ask a higher tier, or tell what follows from the verdict; settled in this wake at the latest."""
    _verdict().record_verdict(parts, features, verdict)


def _breaker() -> object:
    """The module of sessions' bookkeeping, imported by wakes that need it."""
    from device import breaker

    return breaker


def _verdict() -> object:
    """The module that judges, imported by wakes that do: update_model() needs the room."""
    from device import verdict

    return verdict


def _shadow() -> object:
    """The module of the model that scores beside the active one, imported by wakes that have one."""
    from device import shadow_wake

    return shadow_wake


def buffer(parts: Parts, sampler: Sampler) -> None:
    """Put the rows into RTC memory, and what was noted onto flash."""
    state, config = parts.state, parts.config
    if not config["sensitive"]:
        if sampler.channels != state.cols:
            parts.journal.drain_ring()  # it holds rows of as many channels as the schema had before
        raw, state.raw_windows = policy.records_raw(config["upload"], parts.told, state.raw_windows)
        reported = list(state.last_values)
        dead_bands = list(config["deadband"])
        dead_bands += [0] * (sampler.channels - len(dead_bands))
        for index in range(sampler.rows - sampler.fresh, sampler.rows) if raw else (-1,):
            row = sampler.row(index) if raw else sampler.mean_row()
            policy.hold_back(row, reported, state.quiet_rows, dead_bands, config["heartbeat_rows"])
            if state.push_row(sampler.times_ms[index], row):
                parts.journal.drain_ring()
    if parts.journal.waiting:
        parts.journal.keep()


def sync_reason(parts: Parts) -> int:
    """Whether to begin a session now, and why (policy.SYNC_*)."""
    if parts.path.sync == wakes.SYNC_NEVER or not parts.outbox.is_open:
        return policy.SYNC_NONE  # a board that cannot see what it holds would tell the cloud that it is gone
    state = parts.state
    now_ms = parts.board.now_ms()
    state.tokens_milli, state.tokens_ms = policy.refill(
        state.tokens_milli, state.tokens_ms, now_ms, parts.config["syncs_per_hour"], parts.config["syncs_per_hour"]
    )
    events = parts.urgent or parts.outbox.holds(EVENT)
    if not events and parts.updater.wants_session:
        from device import update_time

        events = update_time.calls(parts)
    return policy.sync_reason(
        now_ms,
        state.next_sync_ms,
        1 if events else 0,
        (state.ring_bytes + state.tail_bytes) * 100 // _RING_BYTES,
        state.battery_band,
        (state.breaker_state, state.breaker_failures, state.breaker_until_ms),
        state.tokens_milli,
    )


def next_wake_ms(parts: Parts) -> int:
    """When the next wake is due, on the board's clock: with the next window, or an interval after this one."""
    if parts.path.sample == wakes.SAMPLE_DUE and not parts.sampled:
        return due_ms(parts)
    return parts.board.woke_ms + parts.config["interval_ms"]


def watch_wake_line(parts: Parts) -> None:
    """Decide how the wake line is armed for the sleep to come; a board without one does nothing."""
    board, state = parts.board, parts.state
    active = board.line_active()
    if active is None:
        return
    state.wake_line = wakes.arm_line(state.wake_line, active)
    if state.wake_line & 3 != wakes.ARM_ACTIVE:
        state.line_holds = min(state.line_holds + 1, 255)


def sleep(parts: Parts, at_once: bool = False) -> None:
    """Account for the wake, store RTC memory, and go to deep sleep: until the next wake is due, or for no time."""
    for step in (end_models, account, remember):
        try:
            step(parts)
        except Exception as error:  # noqa: BLE001 - as in run(); RTC memory is stored whatever flash refuses
            parts.health.fault(error)
    now_ms = parts.board.now_ms()
    until_ms = now_ms if at_once else next_wake_ms(parts)
    parts.board.deep_sleep(max(_LEAST_SLEEP_MS, until_ms - now_ms))


def end_models(parts: Parts) -> None:
    """Tell the models how this wake came to its end."""
    parts.state.boot_loops = 0
    parts.updater.end_wake(parts.clean)
    if parts.updater.switched:
        parts.state.hello_ms = 0
    if parts.shadow:
        _shadow().end_wake(parts)


def account(parts: Parts) -> None:
    """Count what was dropped, what flash refused, and what this wake and the sleep before it took."""
    board = parts.board
    parts.health.flash(parts.outbox, parts.state.epoch_stored)
    awake_ms = board.now_ms() - board.woke_ms
    parts.health.spend(awake_ms, parts.radio_ms, parts.slept_ms, parts.journal.written_bytes)
    if parts.outbox.is_open:
        parts.journal.count_ring_drops()


def remember(parts: Parts) -> None:
    """Arm the wake line and store RTC memory."""
    watch_wake_line(parts)
    parts.state.store()
    parts.board.arm_line(parts.state.wake_line & 3)
