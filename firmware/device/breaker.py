"""The circuit breaker, its backoff and the token bucket of a board: policy.py's functions over RTC memory and flash.

Deep sleep and resets leave RTC memory whole; a power loss does not, and must not make a board forget why it was
waiting: one whose supply gives way as the radio comes up would otherwise try again at each power-on. What persists
is in the A/B record `breaker`: failures in a row, from which state and wait follow, and the tokens left. What does not
is the clock: after a power loss the wait of so many failures begins anew, and the bucket fills from what it had.

The record is written as a session begins, already counting its failure, so a session that the power loss cut counts
as one; and again when it has worked. A session costs some 0.3 J, the two writes 0.2 mJ (firmware/DESIGN.md "A/B
records").
"""

import struct

from contract import policy
from device.files import Files
from device.records import Record

_FORM = "<BI"  # failures, tokens_milli


def begin(parts: object) -> None:
    """A session begins: takes a token, and notes on flash what a power loss during it would mean."""
    state = parts.state
    _step(parts, policy.BEGIN)
    state.tokens_milli = max(0, state.tokens_milli - policy.MILLI)
    _store(parts, min(state.breaker_failures + 1, 255))


def end(parts: object, worked: bool) -> None:
    """A session has worked or failed."""
    _step(parts, policy.SUCCESS if worked else policy.FAILURE)
    if worked:
        _store(parts, 0)


def restore(parts: object) -> None:
    """After RTC memory was lost: what flash remembers, as of now. A board that never held a session has nothing."""
    state, now_ms = parts.state, parts.board.now_ms()
    kept = _record(parts).load()
    if kept is None or len(kept) != struct.calcsize(_FORM):
        return
    failures, state.tokens_milli = struct.unpack(_FORM, kept)
    state.tokens_ms = now_ms
    state.breaker_state, state.breaker_failures, state.breaker_until_ms = policy.breaker_restored(
        failures, now_ms, parts.board.random16()
    )


def _step(parts: object, happening: int) -> None:
    state = parts.state
    state.breaker_state, state.breaker_failures, state.breaker_until_ms = policy.breaker_after(
        (state.breaker_state, state.breaker_failures, state.breaker_until_ms),
        happening,
        parts.board.now_ms(),
        parts.board.random16(),
    )


def _store(parts: object, failures: int) -> None:
    try:
        _record(parts).store(struct.pack(_FORM, failures, parts.state.tokens_milli))
    except OSError as error:  # flash that refuses is no reason to be silent
        parts.health.fault(error)


def _record(parts: object) -> Record:
    return Record(Files, parts.board.root + "/breaker")
