"""Many simulated fleets: bad candidates stay with the canaries and are taken back, good ones arrive."""

from statistics import median

import pytest

from cloud.rollouts.engine import Stage
from cloud.rollouts.plan import Plan
from tests.support.fleet_sim import BOARDS, PERIOD_MS, Candidate, Fleet, Outcome

PLAN = Plan(name="m", version="2.0.0", fallback="1.0.0", period_ms=PERIOD_MS)
BAD = [candidate for candidate in Candidate if candidate != Candidate.GOOD]
FLEETS, GOOD_FLEETS, MANY_FLEETS = 10, 4, 1000


def outcomes(candidate: Candidate, fleets: int) -> list[Outcome]:
    return [Fleet(seed, candidate, PLAN).run() for seed in range(fleets)]


def check_bad(candidate: Candidate, fleets: int) -> None:
    found = outcomes(candidate, fleets)
    decided = [outcome.decided for outcome in found if outcome.decided is not None]
    gone = [
        outcome.gone - outcome.decided for outcome in found if outcome.gone is not None and outcome.decided is not None
    ]
    reached = max(outcome.reached for outcome in found)
    print(
        f"\n{candidate}, {fleets} fleets: at most {reached} of {BOARDS} boards reached, taken back after "
        f"{median(decided):g} report periods (at most {max(decided):g}), gone {max(gone):g} later at most"
    )
    for outcome in found:
        assert outcome.stage == Stage.ABORTED, outcome
        assert outcome.reached <= 0.05 * BOARDS, outcome
        assert Stage.RAMP not in outcome.stages, outcome
    assert len(gone) == fleets
    assert max(gone) <= 2


def check_good(fleets: int, allowed: float) -> None:
    found = outcomes(Candidate.GOOD, fleets)
    stopped = [outcome.reason for outcome in found if outcome.stage != Stage.DONE]
    print(f"\ngood: {len(stopped)} of {fleets} fleets stopped wrongly: {stopped}")
    assert len(stopped) <= allowed * fleets


@pytest.mark.parametrize("candidate", BAD)
def test_a_bad_candidate_reaches_at_most_five_percent_and_is_gone_in_two_report_periods(candidate: Candidate) -> None:
    check_bad(candidate, FLEETS)


def test_a_good_candidate_reaches_everybody() -> None:
    check_good(GOOD_FLEETS, 0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("candidate", BAD)
def test_a_bad_candidate_in_a_thousand_fleets(candidate: Candidate) -> None:
    check_bad(candidate, MANY_FLEETS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_good_candidate_is_stopped_in_at_most_one_fleet_of_a_hundred() -> None:
    check_good(MANY_FLEETS, 0.01)
