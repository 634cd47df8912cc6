"""Who decides on a window: the device itself, a fog tier, the cloud, later, or nobody. One table, pure.

Apart from policy.py because of its size: a wake that scores nothing does not import it.

Two things make the board's own verdict doubtful. Near: the score lies within the margin of the threshold.
Unsettled: verdicts, each clear in itself, that keep changing sides say that the machine is in a state the model was
not made for. The measure is the entropy of "the verdict changes" over the last steps (Shannon, "A Mathematical Theory
of Communication", 1948), with the probability as Krichevsky and Trofimov estimate it ("The Performance of Universal
Encoding", IEEE Trans. IT-27, 1981): (changes + 1/2) / (steps + 1). An onset or an end is one change and stays below
the bound. Where changing is the rule, nothing speaks for either verdict: the entropy counts as whole.
"""

from contract.policy import BAND_EMPTY, BAND_LOW
from contract.wire import (
    ROUTE_CLOUD,
    ROUTE_DEFER,
    ROUTE_DEVICE,
    ROUTE_DROP,
    ROUTE_FOG,
    WHY_BATTERY,
    WHY_BREAKER,
    WHY_CLEAR,
    WHY_DEADLINE,
    WHY_ENTROPY,
    WHY_LINK,
    WHY_MARGIN,
    WHY_SENSITIVE,
)

HISTORY = 8  # verdicts remembered, this window's included: as many bits, the newest lowest, 1 anomalous
ENTROPY_MILLI = (337, 696, 896, 989, 1000, 1000, 1000, 1000)  # by changes in HISTORY - 1 steps, thousandths of a bit
UNSETTLED_MILLI = 950  # three changes and more


def remember(verdicts: int, anomalous: bool) -> int:
    """The history of verdicts after one more; 0 is a history without an anomaly."""
    return (verdicts << 1 | (1 if anomalous else 0)) & ((1 << HISTORY) - 1)


def entropy_milli(verdicts: int) -> int:
    """How little the last verdicts agree, in thousandths of a bit."""
    changes = (verdicts ^ verdicts >> 1) & ((1 << (HISTORY - 1)) - 1)
    count = 0
    while changes:
        count += changes & 1
        changes >>= 1
    return ENTROPY_MILLI[count]


# The facts about one window, as bits; the first row whose facts are all there decides.
FACT_CLEAR = 1  # the score is further from the threshold than the margin, and the verdicts are settled
FACT_SENSITIVE = 2  # features of this board may not leave it
FACT_LATE = 4  # there is a deadline, and no answer would come in time
FACT_EMPTY = 8  # battery empty
FACT_LOW = 16  # battery low
FACT_DEAR = 32  # a session costs much radio time now
FACT_BREAKER = 64  # sessions are not tried at present
FACT_DEADLINE = 128  # an answer is of no use any more when the next scheduled session begins
FACT_FOG = 256  # a fog tier answers on the board's broker
FACT_NEAR = 512  # the score is within the margin

DEAR_SESSION_MS = 5000  # radio time that makes a question wait for the next scheduled session

ROUTES = (
    (FACT_CLEAR, ROUTE_DEVICE, WHY_CLEAR),
    (FACT_SENSITIVE, ROUTE_DEVICE, WHY_SENSITIVE),
    (FACT_BREAKER | FACT_DEADLINE, ROUTE_DROP, WHY_BREAKER),
    (FACT_LATE, ROUTE_DROP, WHY_DEADLINE),
    (FACT_EMPTY, ROUTE_DROP, WHY_BATTERY),
    (FACT_LOW | FACT_DEADLINE, ROUTE_DROP, WHY_BATTERY),
    (FACT_DEAR | FACT_DEADLINE, ROUTE_DROP, WHY_LINK),
    (FACT_BREAKER, ROUTE_DEFER, WHY_BREAKER),
    (FACT_LOW, ROUTE_DEFER, WHY_BATTERY),
    (FACT_DEAR, ROUTE_DEFER, WHY_LINK),
    (FACT_FOG | FACT_NEAR, ROUTE_FOG, WHY_MARGIN),
    (FACT_FOG, ROUTE_FOG, WHY_ENTROPY),
    (FACT_NEAR, ROUTE_CLOUD, WHY_MARGIN),
    (0, ROUTE_CLOUD, WHY_ENTROPY),
)


def route(
    score: float,
    threshold: float,
    margin: float,
    verdicts: int,
    sensitive: bool,
    fog: bool,
    deadline_ms: int,
    wait_ms: int,
    band: int,
    session_ms: int,
    breaker_open: bool,
) -> "tuple[int, int]":
    """Who decides on a window, and why: (ROUTE_*, WHY_*).

    `verdicts`: remember() of the last windows, this one included. `fog`: a fog tier answers on the board's broker.
    `deadline_ms`: for how long an answer is of use, 0 for ever. `wait_ms`: until the next scheduled session, the
    breaker's wait included. `session_ms`: what a session takes at present.
    DEVICE: the board's verdict is final. FOG, CLOUD: ask that tier in a session now. DEFER: ask in the next scheduled
    session. DROP: do not ask, the board must do without; the reason says what stood in the way.
    """
    far = abs(score - threshold) > margin  # False for a score that is no number
    settled = entropy_milli(verdicts) < UNSETTLED_MILLI
    facts = (
        (FACT_CLEAR if far and settled else 0)
        | (0 if far else FACT_NEAR)
        | (FACT_SENSITIVE if sensitive else 0)
        | (FACT_FOG if fog else 0)
        | (FACT_LATE if 0 < deadline_ms < session_ms else 0)
        | (FACT_DEADLINE if 0 < deadline_ms < wait_ms + session_ms else 0)
        | (FACT_EMPTY if band == BAND_EMPTY else 0)
        | (FACT_LOW if band == BAND_LOW else 0)
        | (FACT_DEAR if session_ms > DEAR_SESSION_MS else 0)
        | (FACT_BREAKER if breaker_open else 0)
    )
    return route_by_facts(facts)


ANSWER_MS = 3000  # how long the radio stays on for an answer: some eight times what a tier takes, and 1.1 J


def answer_wait_ms(until_ms: int, now_ms: int) -> int:
    """How long to listen for an answer that is of use until `until_ms`, 0 for ever; 0: it would come too late."""
    if not until_ms:
        return ANSWER_MS
    return max(0, min(ANSWER_MS, until_ms - now_ms))


def route_by_facts(facts: int) -> "tuple[int, int]":
    """The decision of the first row of ROUTES whose facts are all among `facts`."""
    for needed, decision, why in ROUTES:
        if facts & needed == needed:
            return decision, why
    raise AssertionError("the last row of ROUTES needs nothing")
