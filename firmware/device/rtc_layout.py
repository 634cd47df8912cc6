"""The 2,048 bytes of RTC memory: every field's name, offset and struct format, stated once, for each layout version.

The memory survives deep sleep and every reset but a power loss, has no checksum of its own, and is written whole. All
layouts agree on magic, CRC and layout version, and on the bytes of the ring of readings behind the header. The table
in DESIGN.md "RTC memory" is generated from these lines, comments included (a test compares them).
"""

import struct
from array import array

from micropython import const

from contract.wire import MAX_TIME_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RTC_BYTES = const(2048)
LAYOUT = const(4)
MAGIC = b"EWRT"
CRC_FROM = const(8)  # the CRC covers everything from here on
RING_AT = const(512)  # header and spare bytes end, sealed frames begin
U48 = "IH"  # one number of 48 bits: milliseconds of 8,900 years, and two bytes less than a Q, ten times over

FIELDS = (
    ("magic", 0, "4s"),  # "EWRT"
    ("crc", 4, "I"),  # CRC-32 of everything behind this field
    ("layout", 8, "B"),  # layout version of the bytes behind
    ("generation", 9, "I"),  # number of stores since the memory was rebuilt
    # Identity
    ("epoch", 13, "I"),  # current epoch
    ("next_seq", 17, "5I"),  # next sequence number of each stream, in the order of wire.STREAMS
    ("began_ms", 37, "IH"),  # board clock when the epoch began; t_ms of a record counts from here
    ("stored_ms", 43, "IH"),  # board clock at the last store
    ("cloud_offset_ms", 49, "q"),  # cloud clock minus t_ms at the last contact, 0: not known in this epoch
    # Wakes
    ("wakes", 57, "I"),  # wakes in this epoch
    ("resets", 61, "H"),  # wakes of this epoch that deep sleep did not announce
    ("boot_loops", 63, "B"),  # resets in a row before a wake cycle came to its end
    ("alarm", 64, "B"),  # state of the alarm, see alarm.py; 0: all is calm
    # Sync schedule, circuit breaker, token bucket
    ("config_version", 65, "I"),  # desired configuration in force
    ("next_sync_ms", 69, "IH"),  # board clock of the next scheduled session
    ("contact_ms", 75, "IH"),  # board clock of the last acknowledgement, 0: none in this epoch
    ("hello_ms", 81, "IH"),  # board clock of the last HELLO, 0: none in this epoch
    ("breaker_state", 87, "B"),  # state of the breaker, see contract/policy.py
    ("breaker_failures", 88, "B"),  # failed sessions in a row
    ("breaker_until_ms", 89, "IH"),  # board clock before which no session is tried
    ("battery_band", 95, "B"),  # battery band at the last wake, see contract/policy.py
    ("tokens_milli", 96, "I"),  # thousandths of a message left in the token bucket
    ("tokens_ms", 100, "IH"),  # board clock of the last refill
    # Link
    ("radio_cache", 106, "24s"),  # the board's cache of its access point and lease, zeros: none
    ("link_rssi", 130, "b"),  # dBm at the last session, 0: none yet
    ("link_quality", 131, "B"),  # moving average of session success, 0 to 255
    ("link_session_ms", 132, "H"),  # moving average of a session's radio time
    # Since the last HEALTH record
    ("health_ms", 134, "IH"),  # board clock when the period began
    ("health_wakes", 140, "I"),  # wakes
    ("awake_ms", 144, "I"),  # time awake
    ("energy_uj", 148, "4I"),  # energy of active CPU, radio, sleep, flash, in microjoule
    ("radio_sessions", 164, "H"),  # sessions tried
    ("radio_failures", 166, "H"),  # sessions that failed
    ("radio_ms", 168, "I"),  # time with the radio on
    ("tx_bytes", 172, "I"),  # bytes sent
    ("rx_bytes", 176, "I"),  # bytes received
    ("routes", 180, "8H"),  # windows by wire.OUTCOME_*
    ("asked", 196, "I"),  # the question that is open: seq + 1 of its QUERY in this epoch, 0: none
    ("faults", 200, "16H"),  # faults by wire.FAULT_* class
    ("scores", 232, "16H"),  # histogram of scores
    # Readings
    ("base_epoch", 264, "I"),  # epoch of the last acknowledged row, 0: none
    ("base_seq", 268, "I"),  # its sequence number
    ("base_values", 272, "16i"),  # its values
    ("quiet_rows", 336, "16B"),  # rows since each channel last left its dead-band
    ("ring_seq", 352, "I"),  # sequence number of the first row held
    ("ring_frames", 356, "B"),  # sealed frames in the ring
    ("ring_dropped", 357, "I"),  # rows of this epoch that found no room and were dropped, oldest first
    ("ring_bytes", 361, "H"),  # their bytes
    ("tail_bytes", 363, "H"),  # bytes of the open tail behind them
    ("tail_rows", 365, "B"),  # rows in the open tail
    ("cols", 366, "B"),  # channels of every row in the ring
    ("tail_t_ms", 367, "IH"),  # time of the tail's first row
    ("last_t_ms", 373, "IH"),  # time of the last row
    ("last_step_ms", 379, "I"),  # time from the row before to it
    ("last_values", 383, "16i"),  # its values, the first `cols` of them
    # The line that wakes the board
    ("wake_line", 447, "B"),  # how it was armed, plus 4 for each quick wake by it, see wakes.py
    ("line_holds", 448, "B"),  # sleeps it was not armed for, held or chattering, since the last HEALTH record
    # Routing
    ("verdicts", 449, "B"),  # the last eight as bits, see routing.remember()
    ("asked_until_s", 450, "I"),  # age of the epoch up to which the open question is open, 0: for ever
    ("raw_windows", 454, "B"),  # windows still to be recorded sample by sample, see policy.UPLOAD_*
    # Since the cold start
    ("energy_mj", 455, "I"),  # energy up to the last HEALTH record, in millijoule
    # Announced
    ("told_band", 459, "B"),  # battery band of the last HEALTH record, whose next contact it decided; 255: say it again
    # Since the last HEALTH record, in the bins of one model; see contract/profile.py
    ("profile_model", 460, "8s"),  # artifact whose bins they are, zeros: none has scored
    ("profile_scores", 468, "8B"),  # its scores by eighths of those in training
    ("profile_from", 476, "B"),  # first of the features that are counted
    ("profile_features", 477, "24B"),  # six features by quarters of their values in training
    # A shadow model
    ("shadow", 501, "4H"),  # what is known of it; windows compared, differing, sent: see shadow_wake.py
)


# How a field of each type is packed by itself. An array goes as its bytes; a U48 as 64 bits, which spares splitting a
# large number: the field behind it, packed after it, lies over the two bytes too many.
_PACKED = {
    "B": "<B",
    "b": "<b",
    "H": "<H",
    "I": "<I",
    "q": "<q",
    U48: "<Q",
    "4s": "<4s",
    "8s": "<8s",
    "24s": "<24s",
    "8B": "<8s",
    "16B": "<16s",
    "24B": "<24s",
    "4H": "<8s",
    "8H": "<16s",
    "16H": "<32s",
    "4I": "<16s",
    "5I": "<20s",
    "16i": "<64s",
}


def unpack(fields: tuple, buf: bytearray) -> "Iterator[tuple]":
    """Yields (name, value) of each field: a number, bytes, or an array where the format counts more than one number."""
    for name, at, form in fields:
        value = struct.unpack_from(_PACKED.get(form) or "<" + form, buf, at)[0]
        if form == U48:
            value &= MAX_TIME_MS
        elif isinstance(value, bytes) and form[-1] != "s":
            value = array(form[-1], value)
        yield name, value


def pack_into(buf: bytearray, state: object) -> None:
    """Puts the fields of the present layout, attributes of state, into buf. Takes no heap but for large numbers."""
    for name, at, form in FIELDS:
        struct.pack_into(_PACKED[form], buf, at, getattr(state, name))
