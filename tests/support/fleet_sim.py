"""Fleets of boards that differ, sleep, lose contact and break by themselves, for trying the rollout engine on many.

Time goes in quarters of a report period. What is drawn at random, per board unless said otherwise:
  alarms    360 windows a period, 1 % above the threshold on average; machines differ (gamma, CV 0.6), periods vary
            (gamma, CV 0.3), the weather moves all boards together (log-normal walk, 20 % a period), and a machine
            really breaks once in 500 board periods and then alarms 20 times as often
  energy, awake, level   differ by 20 % from board to board and vary by 5, 3 and 5 % from period to period; one board
            period in ten has a bad link and costs half as much again
  resets    one in 500 wakes' periods; contact: nine tries of ten succeed; one board period in 300 begins an outage of
            3 to 10 periods
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from cloud.rollouts.engine import ACTIVE, Decision, Stage, State, Trigger, decide, moved
from cloud.rollouts.gates import COMPARED, BoardFacts, Status, Tally, typical
from cloud.rollouts.plan import Plan

BOARDS = 200
PERIOD_MS = 3_600_000
QUARTERS = 4
HISTORY = 20  # report periods before the rollout
WINDOWS = 360  # scored in a period, one a wake

Report = Any  # an array of numpy, (BOARDS,)


class Candidate(StrEnum):
    """How the new model behaves."""

    GOOD = "good"
    FAILS_TO_LOAD = "fails to load"
    CRASHES = "crashes"
    TRIPLES_ALARMS = "triples alarms"
    GOES_SILENT = "goes silent"
    DRAINS = "drains the battery"
    DRIFTS = "drifts slowly"


@dataclass
class Outcome:
    """What a run came to. Times are report periods since the start."""

    stage: Stage
    reason: str
    reached: int  # boards that ever had the candidate active
    decided: float | None  # when it was taken back
    gone: float | None  # when no board that can be reached runs it any more
    stages: list[Stage] = field(default_factory=list[Stage])


class Fleet:
    """One fleet; `run` plays a rollout to its end."""

    def __init__(self, seed: int, candidate: Candidate, plan: Plan) -> None:
        self.rng = np.random.default_rng(seed)
        self.candidate = candidate
        self.plan = plan
        self.base_alarms = self.rng.gamma(1 / 0.36, 0.36, BOARDS) * 0.01 * WINDOWS
        self.base = {name: np.exp(self.rng.normal(0, 0.2, BOARDS)) for name in ("energy", "awake", "level")}
        self.weather = 0.0
        self.offline_until = np.zeros(BOARDS)
        self.broken_until = np.full(BOARDS, -np.inf)
        self.installed_at = np.full(BOARDS, np.nan)  # when the candidate became active
        self.running = np.zeros(BOARDS, bool)  # what is true
        self.known_running = np.zeros(BOARDS, bool)  # what the cloud has heard
        self.known_failed = np.zeros(BOARDS, bool)
        self.failed = np.zeros(BOARDS, bool)
        self.wanted = np.zeros(BOARDS, bool)
        self.ever_wanted = np.zeros(BOARDS, bool)
        self.began = np.zeros(BOARDS, bool)  # said that it takes the candidate, and nothing since
        self.heard_wish = np.zeros(BOARDS, bool)  # contacted since `wanted` last changed
        self.last_contact = np.zeros(BOARDS)
        self.reports: list[dict[str, Report]] = []
        for past in range(-HISTORY, 0):
            self._report(float(past))
        columns = {name: self._column(name, self.reports) for name in COMPARED}
        self._before = [
            {name: typical(name, [Tally(float(x), WINDOWS) for x in column[:, at]]) for name, column in columns.items()}
            for at in range(BOARDS)
        ]
        self.reports = []

    def run(self, longest: int = 60) -> Outcome:
        """Until the rollout ends, at most `longest` periods."""
        state = moved(State(), Trigger.START, 0)
        stages, decided, gone = [state.stage], None, None
        exposed = 0
        for quarter in range(longest * QUARTERS):
            now = quarter / QUARTERS
            decision = self._decide(state, now)
            if decision.state.stage != state.stage:
                stages.append(decision.state.stage)
            state, exposed = decision.state, decision.exposed
            if state.stage == Stage.ROLLING_BACK and decided is None:
                decided = now
            reachable = self.offline_until <= now
            if decided is not None and gone is None and not (self.running & reachable).any():
                gone = now
            if state.stage not in ACTIVE and (decided is None or gone is not None):
                break
            self._wish(exposed)
            self._live(now)
        reached = int((~np.isnan(self.installed_at)).sum())
        return Outcome(state.stage, state.reason, reached, decided, gone, stages)

    def _decide(self, state: State, now: float) -> Decision:
        return decide(self.plan, state, self.facts(now), int(now * PERIOD_MS))

    def _wish(self, exposed: int) -> None:
        wanted = np.arange(BOARDS) < exposed
        self.heard_wish[wanted != self.wanted] = False
        self.ever_wanted |= wanted
        self.wanted = wanted

    def _live(self, now: float) -> None:
        rng = self.rng
        outage = (rng.random(BOARDS) < 1 / 300 / QUARTERS) & (self.offline_until <= now)
        self.offline_until[outage] = now + rng.uniform(3, 10, BOARDS)[outage]
        mute = self.running & (self.candidate == Candidate.GOES_SILENT)
        # The board's own guard: eight sessions without an answer, two periods, take a model back.
        given_up = mute & (now - self.installed_at >= 2)
        self.running[given_up], self.failed[given_up], mute[given_up] = False, True, False
        contact = (rng.random(BOARDS) < 0.9) & (self.offline_until <= now) & ~mute
        self.last_contact[contact] = now
        self.known_running[contact] = self.running[contact]
        self.known_failed[contact] = self.failed[contact]
        self.heard_wish[contact] = True
        self.began[contact] = False
        takes = contact & self.wanted & ~self.running & ~self.failed
        flaky = rng.random(BOARDS) < 0.002  # an install that fails for reasons of its own
        self.failed |= takes & (flaky | (self.candidate == Candidate.FAILS_TO_LOAD))
        self.running |= takes & ~self.failed
        self.began |= takes
        self.installed_at[takes & self.running] = now
        leaves = contact & ~self.wanted & self.running
        self.running[leaves] = False
        if (now * QUARTERS) % QUARTERS == QUARTERS - 1:
            self._report(now + 1 / QUARTERS)

    def _report(self, end: float) -> None:
        """One report of every board for the period that ends at `end`; who is offline sends it later or never."""
        rng = self.rng
        self.weather = 0.8 * self.weather + rng.normal(0, 0.2)
        broken = rng.random(BOARDS) < 1 / 500
        self.broken_until[broken] = end + 2
        age = np.where(self.running, np.maximum(end - self.installed_at, 0), 0)
        share = np.minimum(age, 1)  # of the period in which it ran
        rate = self.base_alarms * rng.gamma(1 / 0.09, 0.09, BOARDS) * np.exp(self.weather)
        rate *= np.where(self.broken_until > end, 20, 1)
        energy = np.where(rng.random(BOARDS) < 0.1, 1.5, 1.0)
        level = np.exp(rng.normal(0, 0.05, BOARDS))
        resets = np.full(BOARDS, 0.002)
        match self.candidate:
            case Candidate.TRIPLES_ALARMS:
                rate *= 1 + 2 * share
            case Candidate.DRAINS:
                energy *= 1 + share
            case Candidate.DRIFTS:
                rate *= 1.25**age
                level *= 1.1**age
            case Candidate.CRASHES:
                resets = resets + 4.0 * share
            case _:
                pass
        self.reports.append(
            {
                "end": np.full(BOARDS, end),
                "alarms": rng.poisson(np.minimum(rate, WINDOWS)).astype(float),
                "energy": self.base["energy"] * energy * np.exp(rng.normal(0, 0.05, BOARDS)) * WINDOWS,
                "awake": self.base["awake"] * np.exp(rng.normal(0, 0.03, BOARDS)) * WINDOWS,
                "level": 0.35 * self.base["level"] * level * WINDOWS,
                "resets": rng.poisson(resets).astype(float),
                "routed": rng.poisson(0.5 + 0.2 * rate).astype(float),
                "arrived": self.offline_until <= end,
            }
        )

    def facts(self, now: float) -> list[BoardFacts]:
        """What the store would hold of each board, in bucket order; reports are read once a period."""
        silent = now - self.last_contact > 1.5
        if now % 1:
            return [BoardFacts(f"b{at}", self._status(at), bool(silent[at])) for at in range(BOARDS)]
        begin = np.where(self.known_running, self.installed_at, 0.0)
        mostly = [r["arrived"] & (r["end"] - 0.5 >= begin) & (r["end"] <= now) for r in self.reports]
        usable = np.array(mostly, bool).reshape(len(self.reports), BOARDS)
        counts = usable.sum(axis=0)
        columns = {name: self._column(name, self.reports) for name in COMPARED}
        return [
            BoardFacts(
                device=f"b{at}",
                status=self._status(at),
                silent=bool(silent[at]),
                reports=int(counts[at]),
                before=self._before[at],
                since={
                    name: [Tally(float(x), WINDOWS) for x in column[usable[:, at], at]]
                    for name, column in columns.items()
                },
            )
            for at in range(BOARDS)
        ]

    def _status(self, at: int) -> Status:
        if self.known_failed[at]:
            return Status.FAILED
        if self.known_running[at]:
            return Status.RUNNING
        if self.began[at]:
            return Status.TRYING
        if self.wanted[at] or not self.heard_wish[at]:
            return Status.WAITING if self.ever_wanted[at] else Status.CONTROL
        return Status.CONTROL

    @staticmethod
    def _column(name: str, reports: list[dict[str, Report]]) -> Report:
        return np.array([report[name] for report in reports]).reshape(len(reports), BOARDS)
