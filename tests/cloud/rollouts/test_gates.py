"""Each gate finds what it is for, and nothing else."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from cloud.rollouts.gates import COMPARED, GATE_NAMES, BoardFacts, Finding, Status, Tally, judge, lately, typical
from cloud.rollouts.plan import Plan

PLAN = Plan(name="m", version="2.0.0", fallback="1.0.0", period_ms=60_000)
# A report of a quiet board: amount, exposure.
USUAL = {
    "resets": Tally(0.0, 300.0),
    "alarms": Tally(4.0, 300.0),
    "level": Tally(100.0, 300.0),
    "awake": Tally(6000.0, 300.0),
    "energy": Tally(500_000.0, 300.0),
    "routed": Tally(2.0, 300.0),
}
Change = Callable[[str, Tally], Tally]


def boards(
    canaries: int = 10, controls: int = 190, reports: int = 6, change: Change = lambda _n, t: t, **of: Any
) -> list[BoardFacts]:
    """Boards that all report the usual, give or take; `change` is what the candidate does to a report."""
    rng = random.Random(3)

    def board(at: int) -> BoardFacts:
        canary = at < canaries
        since = {
            name: [
                change(name, noisy) if canary else noisy
                for _ in range(reports)
                for noisy in [Tally(tally.amount * rng.uniform(0.8, 1.2), tally.exposure)]
            ]
            for name, tally in USUAL.items()
        }
        before = {name: Tally(tally.amount * 10, tally.exposure * 10) for name, tally in USUAL.items()}
        facts: dict[str, Any] = {"silent": False, "reason": ""}
        facts |= of if canary else {}
        status = facts.pop("status", Status.RUNNING) if canary else Status.CONTROL
        return BoardFacts(device=f"b{at}", status=status, reports=reports, before=before, since=since, **facts)

    return [board(at) for at in range(canaries + controls)]


def found(facts: list[BoardFacts], look: int = 3) -> dict[str, Finding]:
    return {finding.gate: finding for finding in judge(PLAN, look, facts)}


def worse(facts: list[BoardFacts]) -> set[str]:
    return {gate for gate, finding in found(facts).items() if finding.worse}


def test_nothing_is_found_where_nothing_differs() -> None:
    assert list(found(boards())) == list(GATE_NAMES)
    assert worse(boards()) == set()


@pytest.mark.parametrize("metric", COMPARED)
def test_each_metric_has_its_gate(metric: str) -> None:
    def change(name: str, tally: Tally) -> Tally:
        return Tally(tally.amount * 3 + (5 if name == "resets" else 0), tally.exposure) if name == metric else tally

    assert worse(boards(change=change)) == {metric}
    finding = found(boards(change=change))[metric]
    assert "times the others' on 10 boards" in finding.words
    if metric != "resets":
        assert 2.5 < finding.factor < 3.5


@pytest.mark.parametrize("metric", ["alarms", "level", "awake", "energy", "routed"])
def test_what_stays_within_the_tolerance_is_not_worse(metric: str) -> None:
    share = 1 + getattr(PLAN.tolerance, metric) * 0.8
    assert worse(boards(change=lambda name, t: Tally(t.amount * share, t.exposure) if name == metric else t)) == set()


def test_better_is_never_worse() -> None:
    assert worse(boards(change=lambda _name, t: Tally(t.amount * 0.3, t.exposure))) == set()


def test_a_change_of_all_boards_is_nobodys_fault() -> None:
    facts = [
        BoardFacts(b.device, b.status, b.silent, b.reports, b.before,
                   {name: [Tally(t.amount * 4, t.exposure) for t in tallies] for name, tallies in b.since.items()})
        for b in boards()
    ]  # fmt: skip
    assert worse(facts) == set()


def test_one_machine_that_breaks_does_not_decide() -> None:
    facts = boards()
    storm = {name: [Tally(t.amount * 50, t.exposure) for t in tallies] for name, tallies in facts[0].since.items()}
    facts[0] = BoardFacts("b0", Status.RUNNING, False, 6, facts[0].before, storm)
    assert worse(facts) == set()


def test_install_failures_are_judged_by_their_number() -> None:
    def with_failed(failed: int) -> set[str]:
        facts = boards()
        for at in range(failed):
            facts[at] = BoardFacts(f"b{at}", Status.FAILED, False, reason="load failed")
        return worse(facts)

    assert with_failed(1) == set(), "one board of ten may have a bad day"
    assert with_failed(4) == {"install"}
    assert with_failed(10) == {"install"}
    words = found(boards(status=Status.FAILED, reason="self-test failed"))["install"].words
    assert words == "10 of 10 boards that tried it failed: self-test failed"


def test_canaries_that_fall_silent_are_found_and_sleepers_are_not_blamed() -> None:
    assert worse(boards(silent=True)) == {"silence"}
    assert worse(boards(silent=True, status=Status.WAITING)) == set()
    assert worse(boards(silent=True, status=Status.TRYING)) == {"silence"}


def test_a_network_that_is_down_for_all_is_not_the_candidates_fault() -> None:
    facts = [BoardFacts(b.device, b.status, True, b.reports, b.before, b.since) for b in boards()]
    assert worse(facts) == set()


def test_without_reports_or_without_a_past_nothing_is_found() -> None:
    assert worse(boards(reports=0, change=lambda _n, t: Tally(t.amount * 9, t.exposure))) == set()
    bare = [BoardFacts(b.device, b.status, b.silent, b.reports, {}, b.since) for b in boards()]
    assert worse(bare) == set()
    assert worse([]) == set()


def test_all_boards_are_judged_by_the_number_of_reports_that_tells_most() -> None:
    def with_reports(*counts: int) -> int:
        return lately([BoardFacts("b", Status.RUNNING, False, count) for count in counts])

    assert with_reports() == 0
    assert with_reports(0, 0, 0, 5, 5) == 0, "half of the canaries have to take part"
    assert with_reports(0, 0, 5, 5, 5) == 4
    assert with_reports(1, 1, 1, 1, 1) == 1
    assert with_reports(1, 1, 2, 2, 2) == 2, "six reports of three boards tell more than five of five"
    assert with_reports(0, 4, 4, 4, 4) == 3
    assert with_reports(12, 12, 12, 12, 12) == 9


def test_what_stands_far_out_among_a_boards_reports_is_left_out() -> None:
    usual = [Tally(amount, 300) for amount in (2, 3, 1, 4)]
    assert typical("alarms", [*usual, Tally(90, 300)]) == Tally(10, 1200)
    assert typical("alarms", [*usual, Tally(9, 300)]) == Tally(19, 1500)
    assert typical("alarms", [Tally(2, 300), Tally(90, 300)]) == Tally(92, 600), "of two, none is the usual one"
    assert typical("energy", [Tally(1, 10), Tally(100, 10), Tally(3, 10)]) == Tally(4, 20)
    assert typical("energy", [Tally(5, 10), Tally(7, 0)]) == Tally(5, 10)
    assert typical("energy", []) == typical("alarms", []) == Tally(0, 0)
