"""Older layouts of RTC memory, read into the present one. Imported at the first wake after a firmware update only."""

import struct
from array import array

from micropython import const

from device.rtc_layout import FIELDS, RING_AT, RTC_BYTES, U48, unpack
from device.rtc_ring import Ring, sealing_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Layout 1 counted whole tokens and the backoff's doublings, held the trial that update.py now keeps on flash, and had
# neither statistics of the link nor a score histogram nor a dead-band.
FIELDS_1 = (
    ("magic", 0, "4s"),
    ("crc", 4, "I"),
    ("layout", 8, "B"),
    ("generation", 9, "I"),
    ("epoch", 13, "I"),
    ("next_seq", 17, "5I"),
    ("began_ms", 37, "Q"),
    ("stored_ms", 45, "Q"),
    ("cloud_offset_ms", 53, "q"),
    ("wakes", 61, "I"),
    ("resets", 65, "H"),
    ("config_version", 67, "I"),
    ("next_sync_ms", 71, "Q"),
    ("contact_ms", 79, "Q"),
    ("breaker_state", 87, "B"),
    ("breaker_failures", 88, "B"),
    ("breaker_until_ms", 89, "Q"),
    ("backoff_level", 97, "B"),
    ("tokens", 98, "H"),
    ("tokens_ms", 100, "Q"),
    ("radio_cache", 108, "24s"),
    ("trial_sha8", 132, "8s"),
    ("trial_wakes", 140, "H"),
    ("trial_contacts", 142, "B"),
    ("trial_failures", 143, "B"),
    ("energy_uj", 144, "4I"),
    ("base_epoch", 160, "I"),
    ("base_seq", 164, "I"),
    ("base_values", 168, "16i"),
    ("ring_seq", 232, "I"),
    ("ring_frames", 236, "B"),
    ("ring_bytes", 237, "H"),
    ("tail_bytes", 239, "H"),
    ("tail_rows", 241, "B"),
    ("cols", 242, "B"),
    ("tail_t_ms", 243, "Q"),
    ("last_t_ms", 251, "Q"),
    ("last_step_ms", 259, "I"),
    ("last_values", 263, "16i"),
)


def _fields_3() -> tuple:
    fields = []
    at = 0
    for name, _, form in FIELDS:
        if name == "profile_model":
            break
        form = "Q" if form == U48 else form
        fields.append((name, at, form))
        at += struct.calcsize("<" + form)
    return tuple(fields)


# Layout 3 had 64 bits for what has 48 now, no profile of the model, and the ring began earlier.
FIELDS_3 = _fields_3()
RING_AT_3 = const(480)

# Layout 2 had the outbox's drop counts in the place of `routes` and `asked`.
_NEW_IN_3 = (("routes", array("H", bytes(16))), ("asked", 0))

_GONE = ("backoff_level", "trial_sha8", "trial_wakes", "trial_contacts", "trial_failures")


def migrate(buf: bytearray, layout: int) -> "Iterable[tuple] | None":
    """(name, value) of each field an older layout shares with the present one, the ring moved to where it is now.

    None for a layout that is not known, and where the counts of the ring contradict each other. What the older layout
    lacks keeps the value it has in fresh memory, 0.
    """
    if layout in (2, 3):
        found = dict(unpack(FIELDS_3, buf))
        if layout == 2:
            found.update(_NEW_IN_3)
    elif layout == 1:
        found = dict(unpack(FIELDS_1, buf))
        found["tokens_milli"] = 1000 * found.pop("tokens")
        found["ring_dropped"] = 0
        for name in _GONE:
            del found[name]
    else:
        return None
    old = _Older()
    for name in found:
        setattr(old, name, found[name])
    return [(name, getattr(old, name)) for name in found] if _move_ring(buf, old) else None


class _Older:
    """The fields of an older layout, for Ring to work on."""


def _move_ring(buf: bytearray, old: object) -> bool:
    """Moves the ring to its present place, which has less room: the oldest frames are dropped and counted, as when
    the ring is overfilled. False: what is there is no ring."""
    area = memoryview(buf)[RING_AT_3:]
    ring = Ring(old, area)
    if not ring.is_sound():
        return False
    room = RTC_BYTES - RING_AT - sealing_bytes(old.cols)
    while old.ring_bytes + old.tail_bytes > room:
        rows = area[0] if old.ring_frames else old.tail_rows
        if rows == 0:
            return False
        old.ring_dropped += rows
        if old.ring_frames:
            ring.trim(old.ring_seq + rows)
        else:  # rows that nothing compressed
            old.ring_seq += rows
            old.tail_rows = old.tail_bytes = 0
    held = bytes(area[: old.ring_bytes + old.tail_bytes])
    memoryview(buf)[RING_AT : RING_AT + len(held)] = held
    return True
