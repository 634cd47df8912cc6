"""Whether a model may be downloaded now, the longest that the radio is ever on. One table, pure.

Apart from policy.py because of its size: a wake without a download does not import it.
"""

from contract.policy import BAND_EMPTY, BAND_LOW
from contract.wire import REASON_LOW_BATTERY, REASON_NOT_NOW, REASON_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The facts, as bits; the first row whose facts are all there decides.
FACT_EMPTY = 1
FACT_LOW = 2
FACT_CLOSED = 4  # not within the hours meant for updates, or nobody knows what time it is
FACT_URGENT = 8
DOWNLOADS = (
    (FACT_EMPTY, REASON_LOW_BATTERY),
    (FACT_URGENT, REASON_OK),
    (FACT_LOW, REASON_LOW_BATTERY),
    (FACT_CLOSED, REASON_NOT_NOW),
    (0, REASON_OK),
)


def download_reason(band: int, hours: "Sequence[int]", urgent: bool, now_s: int) -> int:
    """REASON_OK when a model may be downloaded now, else what it waits for.

    hours: (begin, end) in minutes of the UTC day, over midnight where begin > end; any other number of values: always.
    now_s: unix time in seconds, 0 while it is not known.
    """
    facts = (
        (FACT_EMPTY if band == BAND_EMPTY else 0)
        | (FACT_LOW if band == BAND_LOW else 0)
        | (0 if _within(hours, now_s) else FACT_CLOSED)
        | (FACT_URGENT if urgent else 0)
    )
    for needed, reason in DOWNLOADS:
        if facts & needed == needed:
            return reason
    raise AssertionError("the last row of DOWNLOADS needs nothing")


def _within(hours: "Sequence[int]", now_s: int) -> bool:
    if len(hours) != 2:
        return True
    begin, end = hours
    minute = now_s // 60 % 1440
    within = begin <= minute < end if begin <= end else not end <= minute < begin
    return now_s > 0 and within
