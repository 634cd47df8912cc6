"""What an operator decides before a rollout starts. Fixed from then on. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from cloud.errors import BadRequest
from cloud.rollouts.stats import least_p, level_of_look

MAX_STEPS = 10
MAX_COHORT = 20_000
_MINUTE_MS = 60_000

SHARES = {
    "install": 0.1,
    "silence": 0.1,
    "resets": 0.1,
    "alarms": 0.3,
    "level": 0.1,
    "awake": 0.1,
    "energy": 0.1,
    "routed": 0.1,
}
"""Each gate's share of the error budget. Alarms are few and differ most between boards: their gate needs the most."""


class Mode(StrEnum):
    """What a rollout is for."""

    RAMP = "ramp"
    """To bring the candidate to all boards, step by step."""
    AB = "ab"
    """To compare: one share of the boards runs the candidate for soak_periods, then the operator decides."""
    SHADOW = "shadow"
    """To compare without risk: on one share of the boards the candidate scores beside the version that decides."""


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By which share a metric of the canaries may exceed that of the control boards before it counts as worse."""

    alarms: float = 0.25
    """Windows above the threshold, per window scored."""
    level: float = 0.5
    """Mean score, in thresholds."""
    awake: float = 0.25
    """Time awake per wake."""
    energy: float = 0.25
    """Energy per wake."""
    resets: float = 0.5
    """Resets nobody asked for, per wake."""
    routed: float = 0.5
    """Events the board asked a higher tier about, per window scored."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rollout. Periods are report periods: how often a board of the cohort sends HEALTH."""

    name: str
    version: str
    fallback: str
    """The version boards run now and go back to; the control boards stay with it."""
    period_ms: int = 0
    """0: measured on the cohort when the rollout is planned."""
    kind: str = ""
    """Only boards that watch this kind of machine."""
    tags: tuple[str, ...] = ()
    """Only boards that have all of these."""
    arch: str = ""
    """Only boards of this architecture."""
    firmware: str = ""
    """Only boards with this version of the firmware."""
    mode: Mode = Mode.RAMP
    devices: tuple[str, ...] = ()
    """Only these boards."""
    steps: tuple[int, ...] = (5, 25, 50, 100)
    """Percent of the cohort that run the candidate: first the canaries, then each step of the ramp."""
    min_canaries: int = 5
    """More are taken where the cohort is so small that a comparison with so few could stop nothing."""
    soak_periods: int = 14
    ramp_periods: int = 3
    """How long each step of the ramp is watched before the next."""
    patience_periods: int = 12
    """Without the reports a step needs for this long, the rollout pauses."""
    false_stops: float = 0.01
    """Chance that a model no worse than the tolerances is taken back by a comparison, over the whole rollout."""
    failing_share: float = 0.02
    """Installs that may fail without blaming the model."""
    approval: bool = False
    """An operator has to approve the ramp after the soak."""
    window: str = ""
    """`HH:MM-HH:MM` UTC: boards are added to the candidate only then; taking back waits for nothing."""
    tolerance: Tolerance = Tolerance()

    @property
    def looks(self) -> int:
        """How many looks at the gates a rollout takes that nothing delays."""
        return 2 + self.soak_periods + self.ramp_periods * (len(self.steps) - 1)

    def level(self, gate: str, look: int) -> float:
        """The p-value below which a gate stops the rollout at look 1, 2, ..."""
        return level_of_look(self.false_stops * SHARES[gate], look, self.looks)


def validated(plan: Plan) -> Plan:
    """The plan; raises BadRequest for one that could not protect anybody: a rollout fails closed."""
    if plan.version == plan.fallback:
        raise BadRequest(f"{plan.version} is also the fallback", "name the version boards shall go back to")
    if not _MINUTE_MS // 60 <= plan.period_ms <= 7 * 1440 * _MINUTE_MS:
        raise BadRequest(f"a report period of {plan.period_ms} ms", "give one from a second to a week")
    _check_steps(plan)
    for name in ("min_canaries", "soak_periods", "ramp_periods", "patience_periods"):
        if not 1 <= getattr(plan, name) <= 1000:
            raise BadRequest(f"{name} is {getattr(plan, name)}", "give a number from 1 to 1000")
    for name in ("false_stops", "failing_share"):
        if not 0 < getattr(plan, name) <= 0.2:
            raise BadRequest(f"{name} is {getattr(plan, name)}", "give a share above 0 and at most 0.2")
    for name in Tolerance.__struct_fields__:
        if not 0 <= getattr(plan.tolerance, name) <= 10:
            raise BadRequest(f"tolerance of {name} is {getattr(plan.tolerance, name)}", "give a share from 0 to 10")
    if plan.window:
        parse_window(plan.window)
    return plan


def _check_steps(plan: Plan) -> None:
    rising = all(a < b for a, b in zip(plan.steps, plan.steps[1:], strict=False))
    if plan.mode != Mode.RAMP:
        if len(plan.steps) != 1 or not 1 <= plan.steps[0] <= 50:
            raise BadRequest(f"steps {list(plan.steps)} of a comparison", "give one percentage from 1 to 50")
    elif not 2 <= len(plan.steps) <= MAX_STEPS or not rising or plan.steps[0] < 1 or plan.steps[-1] != 100:
        raise BadRequest(f"steps {list(plan.steps)}", "give 2 to 10 rising percentages that end with 100")


def canaries_of(plan: Plan, cohort: int) -> int:
    """How many boards of a cohort are canaries: the first step's share, rounded down, at least min_canaries, and as
    many more as it takes for a comparison with the others to be able to stop the rollout at every planned look.

    Raises BadRequest when half the cohort would not do.
    """
    count = max(plan.min_canaries, math.floor(cohort * plan.steps[0] / 100))
    level = min(plan.level(gate, plan.looks) for gate in SHARES)
    while 2 * count <= cohort and least_p(count, cohort) > level:
        count += 1
    if 2 * count > cohort:
        raise BadRequest(
            f"{cohort} boards are too few to tell a bad model from chance",
            "widen the cohort, or use `edgewise model deploy`, which compares nothing",
        )
    return count


def exposed_at(plan: Plan, step: int, cohort: int) -> int:
    """Boards that shall run the candidate at a step (0: the canaries)."""
    if step == 0:
        return canaries_of(plan, cohort)
    return max(canaries_of(plan, cohort), math.floor(cohort * plan.steps[step] / 100))


def in_bucket_order(rollout: int, devices: Sequence[str]) -> list[str]:
    """The boards in the order in which they get the candidate: by a hash, another one for each rollout.

    The same board is not the canary every time, and who is one does not depend on anything a model could influence:
    that is what makes the comparison a randomised one.
    """
    return sorted(devices, key=lambda device: (hashlib.sha256(f"{rollout}/{device}".encode()).digest(), device))


def parse_window(text: str) -> tuple[int, int]:
    """(begin, end) of a maintenance window in minutes of the UTC day; begin > end spans midnight. Raises BadRequest."""
    try:
        begin, end = (int(part[:2]) * 60 + int(part[3:]) for part in text.split("-"))
    except ValueError:
        begin = end = -1
    form = len(text) == 11 and text[2] == ":" and text[8] == ":"
    if not form or begin == end or not (0 <= begin < 1440 and 0 <= end < 1440):
        raise BadRequest(f"maintenance window {text!r}", "give it as HH:MM-HH:MM, UTC")
    return begin, end


def is_open(window: str, now_ms: int) -> bool:
    """True when boards may be added to the candidate now."""
    if not window:
        return True
    begin, end = parse_window(window)
    minute = now_ms // _MINUTE_MS % 1440
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def next_open_ms(window: str, now_ms: int) -> int:
    """When boards may be added next, unix ms: now, or at the beginning of the next window."""
    if is_open(window, now_ms):
        return now_ms
    begin, _ = parse_window(window)
    day_ms = 1440 * _MINUTE_MS
    today_ms = now_ms - now_ms % day_ms + begin * _MINUTE_MS
    return today_ms if today_ms >= now_ms else today_ms + day_ms
