"""Is the candidate worse? Canaries against control boards, gate by gate. Pure.

What is compared is not a board's rate but how it changed since before the rollout, each board against itself, because
one machine alarms ten times as often as the next. What changes for all boards, like the weather, cancels out against
the control boards. A board's change is scored so that its spread does not depend on how much the board reports: counts
by their square root (F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data", Biometrika
35, 1948) in standard deviations, measured amounts by their logarithm. A machine that really breaks must not decide for
the model, neither for nor against: of a board's reports those that stand far out are left out, since a model's fault
is in all of them, and scores are cut.

    gate      what counts                                        compared with
    install   refused or rolled back by the board                the plan's failing_share (exact binomial tail)
    silence   no word past the announced time                    control boards
    resets    resets nobody asked for, per wake                  control boards
    alarms    windows above the threshold, per window scored     control boards
    level     mean score, in thresholds                          control boards
    awake     time awake per wake                                control boards
    energy    energy per wake                                    control boards
    routed    events sent to a higher tier, per window           control boards

A look is one report period: all gates look at once. Only `install` goes by its own count, each install being a look.

Besides the tests there is one rule without statistics, for what needs none: when at least two canaries and a third of
them failed, or fell silent while at most a tenth of the others did, the candidate is worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from cloud.rollouts.plan import SHARES, Plan
from cloud.rollouts.stats import excess_p, failures_p

COMPARED = ("resets", "alarms", "level", "awake", "energy", "routed")
GATE_NAMES = ("install", "silence", *COMPARED)
assert set(GATE_NAMES) == set(SHARES)

_COUNTED = ("resets", "alarms", "routed")
# Scores beyond are cut: three standard deviations for counts, a factor of 3.5 for measured amounts.
_CUT_COUNTED = 3.0
_CUT_MEASURED = 1.25
# Variance of a board's rate from period to period, as a share of its square, beyond that of counting.
_OVERDISPERSION = 0.05
_ANSCOMBE = 0.375
_LEAST_REPORTS = 3
_TRIMMED_SHARE = 3  # one report of so many
# The cohort's average stands in for this share of a board's own past: one report of twenty.
_PRIOR_SHARE = 0.05


class Status(StrEnum):
    """How far a board of the cohort is with the candidate."""

    CONTROL = "control"
    WAITING = "waiting"
    """Told, has not taken it yet: asleep, offline, or downloading."""
    TRYING = "trying"
    """It has begun to take it."""
    RUNNING = "running"
    FAILED = "failed"
    """It refused the candidate or rolled it back."""


class Tally(NamedTuple):
    """An amount (events, ms, µJ, score) over an exposure (wakes, windows)."""

    amount: float
    exposure: float


Reports = Mapping[str, Sequence[Tally]]
"""Metric -> one tally per HEALTH report, the oldest first."""


class BoardFacts(Struct, frozen=True):
    """What the gates see of a board: its past before the rollout, and its reports since it runs what it runs."""

    device: str
    status: Status
    silent: bool
    reports: int = 0
    """How many there are in `since`."""
    before: Mapping[str, Tally] = {}
    """`typical` of its reports before the rollout."""
    since: Reports = {}
    reason: str = ""
    """Why it failed."""


class Finding(Struct, frozen=True):
    """What one gate found."""

    gate: str
    worse: bool
    p: float
    """Chance of such a difference if the candidate were within its tolerance, at most."""
    level: float
    """Below this p it counts as worse."""
    factor: float
    """Canaries' change over the control boards' change; failing boards for install and silence."""
    words: str


def lately(running: Sequence[BoardFacts]) -> int:
    """How many of its newest reports each board, canary or not, is judged by; 0 while too few have any.

    All boards must be treated alike, or the comparison is not a randomised one. It is the number with which most
    reports take part, from at least half of the canaries. Of many, the newer three quarters: the evidence grows with
    time, so that small differences are found, and the oldest goes, so that slow ones are.
    """
    counts = sorted((board.reports for board in running), reverse=True)
    half = (len(counts) + 1) // 2
    have = max(counts[half - 1 :], key=lambda n: n * sum(count >= n for count in counts), default=0)
    return min(have, max(_LEAST_REPORTS, (3 * have + 3) // 4))


def typical(metric: str, reports: Sequence[Tally]) -> Tally:
    """A board's reports as one tally, without those that tell of something else than its usual days.

    Of counts, reports beyond three times the middle rate and five events more are left out; of measured amounts, the
    third with the highest rate.
    """
    usable = sorted((report for report in reports if report.exposure > 0), key=lambda r: r.amount / r.exposure)
    if metric in _COUNTED and len(usable) >= _LEAST_REPORTS:
        middle = usable[len(usable) // 2]
        rate = middle.amount / middle.exposure
        kept = [report for report in usable if report.amount <= 3 * rate * report.exposure + 5]
    elif metric in _COUNTED:
        kept = usable
    else:
        kept = usable[: len(usable) - len(usable) // _TRIMMED_SHARE]
    return Tally(sum(report.amount for report in kept), sum(report.exposure for report in kept))


def judge(plan: Plan, look: int, boards: Sequence[BoardFacts]) -> list[Finding]:
    """What every gate finds at look 1, 2, ...; a gate without data finds nothing."""
    exposed = [board for board in boards if board.status != Status.CONTROL]
    controls = [board for board in boards if board.status == Status.CONTROL]
    findings = [judge_installs(plan, boards), _silence(plan.level("silence", look), exposed, controls)]
    running = [board for board in exposed if board.status == Status.RUNNING]
    newest = lately(running)
    ours = [board for board in running if board.reports >= newest > 0]
    theirs = [board for board in controls if board.reports >= newest > 0]
    for metric in COMPARED:
        changes = _changes(metric, newest, [*ours, *theirs])
        level = plan.level(metric, look)
        findings.append(_compared(metric, getattr(plan.tolerance, metric), level, changes, len(ours)))
    return findings


def judge_installs(plan: Plan, boards: Sequence[BoardFacts]) -> Finding:
    """The install gate alone, which need not wait for reports."""
    tried = [board for board in boards if board.status in (Status.RUNNING, Status.FAILED)]
    level = plan.level("install", max(1, len(tried)))
    failed = [board for board in tried if board.status == Status.FAILED]
    p = failures_p(len(failed), len(tried), plan.failing_share)
    worse = p < level or _plainly_bad(len(failed), len(tried))
    reasons = ", ".join(sorted({board.reason for board in failed if board.reason}))
    words = f"{len(failed)} of {len(tried)} boards that tried it failed" + (f": {reasons}" if reasons else "")
    return Finding("install", worse, p, level, float(len(failed)), words)


def _silence(level: float, exposed: Sequence[BoardFacts], controls: Sequence[BoardFacts]) -> Finding:
    # A board that still waits was told nothing new: its silence is no verdict on the candidate.
    tried = [board for board in exposed if board.status != Status.WAITING]
    silent = sum(board.silent for board in tried)
    quiet = sum(board.silent for board in controls)
    p = excess_p([float(board.silent) for board in tried], [float(board.silent) for board in controls])
    others_fine = quiet <= 0.1 * len(controls)
    worse = p < level or (_plainly_bad(silent, len(tried)) and others_fine)
    words = f"{silent} of {len(tried)} canaries and {quiet} of {len(controls)} others are silent past their time"
    return Finding("silence", worse, p, level, float(silent), words)


def _plainly_bad(bad: int, tried: int) -> bool:
    return bad >= 2 and 3 * bad >= tried


class _Change(NamedTuple):
    """What a board reported lately, and what it would have at its rate from before the rollout."""

    found: float
    expected: float


def _compared(metric: str, tolerance: float, level: float, changes: Sequence[_Change | None], canaries: int) -> Finding:
    """`changes` of the canaries, then of the control boards."""
    ours = [change for change in changes[:canaries] if change is not None]
    theirs = [change for change in changes[canaries:] if change is not None]
    if not ours or not theirs:
        return Finding(metric, False, 1.0, level, 1.0, "no reports to compare yet")
    score = _score_counted if metric in _COUNTED else _score_measured
    # What moved the middle board moved them all; a canary may exceed it by the tolerance.
    common = median((change.found + 0.5) / (change.expected + 0.5) for change in [*ours, *theirs])
    p = excess_p(
        [score(change, common * (1 + tolerance)) for change in ours], [score(change, common) for change in theirs]
    )
    factor = _factor(ours) / max(_factor(theirs), 1e-9)
    words = f"{factor:.2f} times the others' on {len(ours)} boards, {1 + tolerance:.2f} is tolerated"
    return Finding(metric, p < level, p, level, factor, words)


def _score_counted(change: _Change, factor: float) -> float:
    expected = change.expected * factor
    difference = math.sqrt(change.found + _ANSCOMBE) - math.sqrt(expected + _ANSCOMBE)
    deviation = 0.5 * math.sqrt(1 + _OVERDISPERSION * change.expected)
    return max(-_CUT_COUNTED, min(_CUT_COUNTED, difference / deviation))


def _score_measured(change: _Change, factor: float) -> float:
    return max(-_CUT_MEASURED, min(_CUT_MEASURED, math.log(change.found / (change.expected * factor))))


def _factor(changes: Sequence[_Change]) -> float:
    """By which the boards' rate grew, all together."""
    return (sum(change.found for change in changes) + 0.5) / (sum(change.expected for change in changes) + 0.5)


def _changes(metric: str, newest: int, boards: Sequence[BoardFacts]) -> list[_Change | None]:
    """For each board how it changed; None where that is not known.

    A board's past is completed from all boards' where it is short.
    """
    pasts = [board.before.get(metric, Tally(0.0, 0.0)) for board in boards]
    exposure = sum(past.exposure for past in pasts)
    if exposure <= 0:
        return [None] * len(boards)
    prior = _PRIOR_SHARE * exposure / len(boards)
    average = sum(past.amount for past in pasts) / exposure
    changes: list[_Change | None] = []
    for board, past in zip(boards, pasts, strict=True):
        found = typical(metric, board.since.get(metric, ())[-newest:])
        expected = (past.amount + average * prior) / (past.exposure + prior) * found.exposure
        known = found.exposure > 0 and (metric in _COUNTED or (expected > 0 and found.amount > 0))
        changes.append(_Change(found.amount, expected) if known else None)
    return changes
