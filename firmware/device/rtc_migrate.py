"""Older layouts of RTC memory, read into the present one. Imported at the first wake after a firmware update only."""

from device.rtc_layout import FIELDS, unpack

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


# Layout 2 had the outbox's drop counts in the place of `routes` and `asked`.
_NEW_IN_3 = (("routes", [0] * 8), ("asked", 0))

_GONE = ("backoff_level", "trial_sha8", "trial_wakes", "trial_contacts", "trial_failures")


def migrate(buf: bytearray, layout: int) -> "Iterable[tuple] | None":
    """(name, value) of each field an older layout shares with the present one; None for a layout that is not known.

    What the older layout lacks keeps the value it has in fresh memory, 0.
    """
    if layout == 2:
        found = dict(unpack(FIELDS, buf))
        found.update(_NEW_IN_3)
        return found.items()
    if layout != 1:
        return None
    found = dict(unpack(FIELDS_1, buf))
    found["tokens_milli"] = 1000 * found.pop("tokens")
    for name in _GONE:
        del found[name]
    return found.items()
