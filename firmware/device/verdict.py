"""Who has the last word on a window, and what follows from it.

Theory of operation. The active model scores; a model that fails to is passed over for the one before, and that for the
SAFE limits, which always score. contract/routing.py then says whether the verdict is clear or who is asked:

    sure             the verdict stands, and a question that was open is closed: the answer would be about the past
    FOG, CLOUD       a QUERY leaves in this wake's session, which listens for the ANSWER within the deadline
    DEFER            a QUERY waits for the next scheduled session; meanwhile the board judges by itself
    DROP, sensitive  nobody is asked, the board judges by itself

A doubtful window without an answer is judged by whoever on the board has an opinion: the previous model where it is
sure, else SAFE where it has limits, else the active model after all. One verdict for each window goes into the alarm
(alarm.py), and what that tells becomes an EVENT with the route and the reason. What became of the windows is counted in
RTC memory (wire.OUTCOME_*), so that a deadline that passed shows even where no EVENT follows.

At most one question is open, `asked` in RTC memory: an answer to any other is stray, as is one that comes twice or
late. An answer to a question of an earlier wake raises the alarm where it says anomaly; where it says normal there is
nothing to do, since two calm windows end an alarm by themselves.
"""

from contract import policy, routing
from contract.wire import (
    FAULT_MODEL,
    OUTCOME_FALLBACK,
    OUTCOME_STRAY,
    OUTCOME_UNANSWERED,
    ROUTE_CLOUD,
    ROUTE_DEFER,
    ROUTE_DEVICE,
    ROUTE_FOG,
    VERDICT_ANOMALY,
    VERDICT_NORMAL,
    WHY_CLEAR,
    WHY_DEADLINE,
    WHY_NO_MODEL,
)
from device import profile
from device.alarm import NOTHING, alarm_after
from device.detector import SafeModel

_ASKED = (ROUTE_FOG, ROUTE_CLOUD)
_SURE = (WHY_CLEAR, WHY_NO_MODEL)


class Verdict:
    """What is made of one window: score and threshold of the model `sha8`, route ROUTE_*, reason WHY_*."""

    def __init__(self, score: float, threshold: float, route: int, reason: int, sha8: bytes = bytes(8)) -> None:
        self.score = score
        self.threshold = threshold
        self.route = route
        self.reason = reason
        self.sha8 = sha8
        self.anomalous = score > threshold


class Answer:
    """What a higher tier said: anomalous or not, and who it was (ROUTE_FOG or ROUTE_CLOUD)."""

    def __init__(self, anomalous: bool, tier: int) -> None:
        self.anomalous = anomalous
        self.tier = tier


def safe_model(parts: object) -> SafeModel:
    """The model of last resort, from the limits in config.json."""
    names = parts.features.names
    limits = [(names.index(name), low, high) for name, (low, high) in parts.config.limits.items() if name in names]
    return SafeModel(parts.features.n_features, limits)


def score(parts: object, detector: object, features: object) -> Verdict:
    """Score the window, array('i') (n_features,), and decide who has the last word on it."""
    state, config = parts.state, parts.config
    active = detector
    detector, value = _score_with_first_that_can(parts, active, features)
    threshold = detector.threshold + config["threshold_milli"] / 1000
    parts.health.score(value, threshold)
    state.verdicts = routing.remember(state.verdicts, value > threshold)
    if isinstance(detector, SafeModel):
        return Verdict(value, threshold, ROUTE_DEVICE, WHY_NO_MODEL)
    if detector is active:
        _count(parts, detector.sha8, value, features)
    now_ms = parts.board.now_ms()
    route, reason = routing.route(
        value,
        threshold,
        detector.margin,
        state.verdicts,
        config["sensitive"],
        config["fog"],
        config["deadline_ms"],
        max(0, state.next_sync_ms - now_ms, state.breaker_until_ms - now_ms),
        state.battery_band,
        state.link_session_ms,
        state.breaker_state != policy.BREAKER_CLOSED,
    )
    return Verdict(value, threshold, route, reason, detector.sha8)


def record_verdict(parts: object, features: object, verdict: Verdict) -> None:
    """Ask where somebody is to be asked; tell what follows from the verdict where it needs no answer of this wake."""
    state = parts.state
    parts.window = (verdict, features)
    if verdict.reason in _SURE:
        state.asked = 0
    elif verdict.route in _ASKED:
        parts.journal.query(parts.config["deadline_ms"], verdict, verdict.sha8, features)
        parts.urgent = True
        return
    elif verdict.route == ROUTE_DEFER and not is_open(parts):  # one spell of doubt, one question
        parts.journal.query(parts.config["deadline_ms"], verdict, verdict.sha8, features)
    settle(parts)


def is_open(parts: object) -> bool:
    """Whether an answer is still of use to this board."""
    state = parts.state
    return state.asked > 0 and (state.asked_until_s == 0 or parts.journal.now_ms() < state.asked_until_s * 1000)


def take_answer(parts: object, epoch: int, seq: int, verdict: int, score: float, tier: int) -> bool:
    """One ANSWER of the cloud or a fog tier; True when nothing more is to be waited for.

    A tier that does not know leaves the question open for the next one; behind the cloud there is none.
    """
    state = parts.state
    if epoch != state.epoch or seq + 1 != state.asked or not is_open(parts):
        parts.health.outcome(OUTCOME_STRAY)
        return False
    if verdict not in (VERDICT_NORMAL, VERDICT_ANOMALY):  # not known, or a word this firmware does not know
        return tier == ROUTE_CLOUD
    state.asked = 0
    answer = Answer(verdict == VERDICT_ANOMALY, ROUTE_FOG if tier == ROUTE_FOG else ROUTE_CLOUD)
    if parts.window is not None:
        parts.answer = answer
    elif answer.anomalous and state.alarm == 0:
        _tell(parts, Verdict(score, 0.0, answer.tier, WHY_DEADLINE), True, ())  # its window is long gone
    return True


def settle(parts: object) -> None:
    """The last word on this wake's window, once: the answer where one came, else what the board makes of it alone."""
    if parts.window is None:
        return
    (verdict, features), answer = parts.window, parts.answer
    parts.window = parts.answer = None
    asked = verdict.route in _ASKED
    anomalous = verdict.anomalous
    if answer is not None:
        verdict.route = answer.tier
        anomalous = answer.anomalous
    elif verdict.reason not in _SURE:
        if asked:
            verdict.route, verdict.reason = ROUTE_DEVICE, WHY_DEADLINE
        _second_opinion(parts, verdict, features)
        anomalous = verdict.anomalous
    parts.health.outcome(OUTCOME_UNANSWERED if asked and answer is None else verdict.route)
    _tell(parts, verdict, anomalous, features)


def _tell(parts: object, verdict: Verdict, anomalous: bool, features: object) -> None:
    """Put a verdict into the alarm, and make an EVENT where an anomaly begins, lasts or ends."""
    parts.state.alarm, kind = alarm_after(parts.state.alarm, anomalous)
    if kind == NOTHING:
        return
    parts.told = True
    parts.journal.event(kind, verdict, verdict.sha8, () if parts.config["sensitive"] else features)


def _score_with_first_that_can(parts: object, detector: object, features: object) -> tuple:
    """(model, score) of the first of active, previous and SAFE that scores; a model that does not is counted."""
    try:
        return detector, detector.score(features)
    except Exception as error:  # noqa: BLE001 - a model's code may raise anything
        parts.clean = False
        parts.health.fault(error, FAULT_MODEL)
    parts.health.outcome(OUTCOME_FALLBACK)
    previous = _previous(parts)
    try:
        if previous is not None:
            return previous, previous.score(features)
    except Exception as error:  # noqa: BLE001 - as above
        parts.health.fault(error, FAULT_MODEL)
    detector = safe_model(parts)
    return detector, detector.score(features)


def _count(parts: object, sha8: bytes, value: float, features: object) -> None:
    """Count the window in the model's own bins; what is wrong with those is no reason to judge otherwise."""
    try:
        profile.count(parts, sha8, value, features)
    except Exception as error:  # noqa: BLE001 - OSError, or WireError of a head that flash spoiled
        parts.health.fault(error)


def _second_opinion(parts: object, verdict: Verdict, features: object) -> None:
    """Change a doubtful verdict to that of the previous model where it is sure, else to that of SAFE where it can say.

    A previous model is asked once in a wake, and only by a window that is doubtful: loading it costs what loading the
    active one did.
    """
    extra = parts.config["threshold_milli"] / 1000
    previous = _previous(parts)
    if previous is not None:
        try:
            value = previous.score(features)
        except Exception as error:  # noqa: BLE001 - a model's code may raise anything
            parts.health.fault(error, FAULT_MODEL)
        else:
            if previous.sha8 != verdict.sha8 and abs(value - previous.threshold - extra) > previous.margin:
                _decide(parts, verdict, value, previous.threshold + extra, previous.sha8)
                return
    safe = safe_model(parts)
    if safe.has_limits:
        _decide(parts, verdict, safe.score(features), safe.threshold + extra, safe.sha8)


def _decide(parts: object, verdict: Verdict, value: float, threshold: float, sha8: bytes) -> None:
    verdict.score, verdict.threshold, verdict.sha8 = value, threshold, sha8
    verdict.anomalous = value > threshold
    parts.health.outcome(OUTCOME_FALLBACK)


def _previous(parts: object) -> object:
    """The model before the active one, or None; whatever is wrong with it, there is still SAFE."""
    try:
        return parts.updater.previous()
    except Exception as error:  # noqa: BLE001 - MemoryError, or what a payload raises at its import
        parts.health.fault(error, FAULT_MODEL)
        return None
