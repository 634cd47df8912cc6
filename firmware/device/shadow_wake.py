"""What a wake does with the shadow model, and what RTC memory knows of it.

compare() runs the shadow only after all the active model has said is on flash, and notes in RTC memory that it does. A
wake that dies from there on is blamed on the shadow at the next boot; one that comes to its end clears the note. With a
low battery the shadow rests.
"""

from micropython import const

from contract import policy
from contract.wire import ROUTE_DEFER, WHY_SHADOW_ANOMALY, WHY_SHADOW_NORMAL
from device import rtc_state
from device.files import Files
from device.shadow import Shadow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from device.detector import Detector
    from device.slots import Installed

_MAX_UPLOADS = const(16)  # disagreements sent with their features, in the period of a HEALTH record; all are counted
_MAX_U16 = const(0xFFFF)
# RtcState.shadow: rtc_state.SHADOW_* or _HELD, then windows since the last HEALTH record
_KNOWN = const(0)
_COMPARED = const(1)
_DIFFERING = const(2)
_SENT = const(3)
_HELD = const(2)


def wake(parts: object, blamed: bool) -> None:
    """Finds out whether there is a shadow, and whether the wake before died of it."""
    parts.shadow = _open(parts)
    before = parts.shadow.model
    parts.shadow.start(blamed)
    _note(parts, before)


def take_want(parts: object, config_version: int, model: tuple | None) -> None:
    """WANT's shadow in a session."""
    if parts.shadow is None:
        if model is None:
            return
        parts.shadow = _open(parts)
    before = parts.shadow.model
    parts.shadow.on_want(config_version, model)
    _note(parts, before)


def step(parts: object) -> bool:
    """Go on with a shadow that has been fetched; True when there was something to do."""
    before = parts.shadow.model
    done = parts.shadow.step(parts.now_s())
    _note(parts, before)
    return done


def compare(parts: object, features: object, sha8: bytes, anomalous: bool) -> None:
    """Let the shadow score the window, array('i') (n_features,), that the model `sha8` found `anomalous` or not.

    Whatever the shadow does, the active model's verdict is recorded by now, and nothing here touches it.
    """
    state, shadow = parts.state, parts.shadow
    active = parts.updater.model
    if active is None or active.sha8 != sha8 or shadow.model is None:
        return
    if shadow.rests or state.battery_band < policy.BAND_FAIR:
        return
    before = shadow.model
    state.shadow[_KNOWN] = rtc_state.SHADOW_RUNS
    if parts.journal.waiting:
        parts.journal.keep()
    else:
        state.store()
    beside = shadow.load(not parts.path.announced)
    if beside is not None:
        try:
            value = beside.score(features)
        except Exception as e:  # noqa: BLE001 - a model's code may raise anything
            shadow.give_up(e)
        else:
            _count(parts, features, beside, value, anomalous)
        beside = None
        shadow.unload()
    if shadow.model is None:
        _note(parts, before)


def end_wake(parts: object) -> None:
    """Before sleep: what the shadow did in this wake killed nothing."""
    if parts.state.shadow[_KNOWN] == rtc_state.SHADOW_RUNS:
        parts.shadow.end_wake()
        parts.state.shadow[_KNOWN] = _HELD


def _count(parts: object, features: object, beside: "Detector", value: float, anomalous: bool) -> None:
    counted = parts.state.shadow
    threshold = beside.threshold + parts.config["threshold_milli"] / 1000
    counted[_COMPARED] = min(counted[_COMPARED] + 1, _MAX_U16)
    if (value > threshold) == anomalous:
        return
    counted[_DIFFERING] = min(counted[_DIFFERING] + 1, _MAX_U16)
    if counted[_SENT] < _MAX_UPLOADS and not parts.config["sensitive"]:
        counted[_SENT] += 1
        reason = WHY_SHADOW_ANOMALY if value > threshold else WHY_SHADOW_NORMAL
        parts.journal.tell(0, _Said(value, reason), beside.sha8, features)


class _Said:
    """What journal.tell() takes of a verdict."""

    route = ROUTE_DEFER

    def __init__(self, score: float, reason: int) -> None:
        self.score = score
        self.reason = reason


def _open(parts: object) -> Shadow:
    return Shadow(Files, parts.board.root, parts.trust, parts.updater.places, parts.journal.update)


def _note(parts: object, before: "Installed | None") -> None:
    """Remembers in RTC memory whether there is a shadow; the cloud hears of one that came or went."""
    state, shadow = parts.state, parts.shadow
    if not (state.shadow[_KNOWN] == rtc_state.SHADOW_RUNS and shadow.model is not None):
        state.shadow[_KNOWN] = _HELD if shadow.held else rtc_state.SHADOW_NONE
    if shadow.model is not before:
        state.hello_ms = 0
        rtc_state.clear(state.shadow, _COMPARED)
