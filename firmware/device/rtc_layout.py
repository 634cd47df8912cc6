"""The 2,048 bytes of RTC memory: every field's name, offset and struct format, stated once, for each layout version.

The memory survives deep sleep and every reset but a power loss, has no checksum of its own, and is written whole. All
layouts agree on magic, CRC and layout version, on the size of the header and on the ring of readings behind it. The
table in DESIGN.md "RTC memory" is generated from these lines, comments included (a test compares them).
"""

import struct

from micropython import const

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RTC_BYTES = const(2048)
LAYOUT = const(3)
MAGIC = b"EWRT"
CRC_FROM = const(8)  # the CRC covers everything from here on
RING_AT = const(480)  # header and spare bytes end, sealed frames begin

FIELDS = (
    ("magic", 0, "4s"),  # "EWRT"
    ("crc", 4, "I"),  # CRC-32 of everything behind this field
    ("layout", 8, "B"),  # layout version of the bytes behind
    ("generation", 9, "I"),  # number of stores since the memory was rebuilt
    # Identity
    ("epoch", 13, "I"),  # current epoch
    ("next_seq", 17, "5I"),  # next sequence number of each stream, in the order of wire.STREAMS
    ("began_ms", 37, "Q"),  # board clock when the epoch began; t_ms of a record counts from here
    ("stored_ms", 45, "Q"),  # board clock at the last store
    ("cloud_offset_ms", 53, "q"),  # cloud clock minus t_ms at the last contact, 0: not known in this epoch
    # Wakes
    ("wakes", 61, "I"),  # wakes in this epoch
    ("resets", 65, "H"),  # wakes of this epoch that deep sleep did not announce
    ("boot_loops", 67, "B"),  # resets in a row before a wake cycle came to its end
    ("alarm", 68, "B"),  # state of the alarm, see alarm.py; 0: all is calm
    # Sync schedule, circuit breaker, token bucket
    ("config_version", 69, "I"),  # desired configuration in force
    ("next_sync_ms", 73, "Q"),  # board clock of the next scheduled session
    ("contact_ms", 81, "Q"),  # board clock of the last acknowledgement, 0: none in this epoch
    ("hello_ms", 89, "Q"),  # board clock of the last HELLO, 0: none in this epoch
    ("breaker_state", 97, "B"),  # state of the breaker, see contract/policy.py
    ("breaker_failures", 98, "B"),  # failed sessions in a row
    ("breaker_until_ms", 99, "Q"),  # board clock before which no session is tried
    ("battery_band", 107, "B"),  # battery band at the last wake, see contract/policy.py
    ("tokens_milli", 108, "I"),  # thousandths of a message left in the token bucket
    ("tokens_ms", 112, "Q"),  # board clock of the last refill
    # Link
    ("radio_cache", 120, "24s"),  # the board's cache of its access point and lease, zeros: none
    ("link_rssi", 144, "b"),  # dBm at the last session, 0: none yet
    ("link_quality", 145, "B"),  # moving average of session success, 0 to 255
    ("link_session_ms", 146, "H"),  # moving average of a session's radio time
    # Since the last HEALTH record
    ("health_ms", 148, "Q"),  # board clock when the period began
    ("health_wakes", 156, "I"),  # wakes
    ("awake_ms", 160, "I"),  # time awake
    ("energy_uj", 164, "4I"),  # energy of active CPU, radio, sleep, flash, in microjoule
    ("radio_sessions", 180, "H"),  # sessions tried
    ("radio_failures", 182, "H"),  # sessions that failed
    ("radio_ms", 184, "I"),  # time with the radio on
    ("tx_bytes", 188, "I"),  # bytes sent
    ("rx_bytes", 192, "I"),  # bytes received
    ("routes", 196, "8H"),  # windows by wire.OUTCOME_*
    ("asked", 212, "I"),  # the question that is open: seq + 1 of its QUERY in this epoch, 0: none
    ("faults", 216, "16H"),  # faults by wire.FAULT_* class
    ("scores", 248, "16H"),  # histogram of scores
    # Readings
    ("base_epoch", 280, "I"),  # epoch of the last acknowledged row, 0: none
    ("base_seq", 284, "I"),  # its sequence number
    ("base_values", 288, "16i"),  # its values
    ("quiet_rows", 352, "16B"),  # rows since each channel last left its dead-band
    ("ring_seq", 368, "I"),  # sequence number of the first row held
    ("ring_frames", 372, "B"),  # sealed frames in the ring
    ("ring_dropped", 373, "I"),  # rows of this epoch that found no room and were dropped, oldest first
    ("ring_bytes", 377, "H"),  # their bytes
    ("tail_bytes", 379, "H"),  # bytes of the open tail behind them
    ("tail_rows", 381, "B"),  # rows in the open tail
    ("cols", 382, "B"),  # channels of every row in the ring
    ("tail_t_ms", 383, "Q"),  # time of the tail's first row
    ("last_t_ms", 391, "Q"),  # time of the last row
    ("last_step_ms", 399, "I"),  # time from the row before to it
    ("last_values", 403, "16i"),  # its values, the first `cols` of them
    # The line that wakes the board
    ("wake_line", 467, "B"),  # how it was armed, plus 4 for each quick wake by it, see wakes.py
    ("line_holds", 468, "B"),  # sleeps it was not armed for, held or chattering, since the last HEALTH record
    # Routing
    ("verdicts", 469, "B"),  # the last eight as bits, see routing.remember()
    ("asked_until_s", 470, "I"),  # age of the epoch up to which the open question is open, 0: for ever
    ("raw_windows", 474, "B"),  # windows still to be recorded sample by sample, see policy.UPLOAD_*
    # Since the cold start
    ("energy_mj", 475, "I"),  # energy up to the last HEALTH record, in millijoule
    # Announced
    ("told_band", 479, "B"),  # battery band of the last HEALTH record, whose next contact it decided; 255: say it again
)


def unpack(fields: tuple, buf: bytearray) -> "Iterator[tuple]":
    """Yields (name, value) of each field: a number, bytes, or a list where the format counts more than one number."""
    # One call for all fields, which have no gaps between them, is 17 times as fast as one for each.
    values = struct.unpack_from(form_of(fields), buf)
    at = 0
    for name, _, form in fields:
        if len(form) == 1 or form[-1] == "s":
            yield name, values[at]
            at += 1
        else:
            end = at + int(form[:-1])
            yield name, list(values[at:end])
            at = end


def form_of(fields: tuple) -> str:
    """The struct format of all fields together."""
    return "<" + "".join([form for _, _, form in fields])
