"""What the API says of rollouts."""

from msgspec import Struct

from cloud.rollouts.engine import State
from cloud.rollouts.gates import Finding
from cloud.rollouts.plan import Plan


class Rollout(Struct, frozen=True):
    """One line of the list of rollouts."""

    id: int
    name: str
    version: str
    fallback: str
    stage: str
    step_percent: int
    """Of the cohort that shall run the candidate."""
    boards: int
    running: int
    failed: int
    waiting: int
    """Told and asleep, offline or still taking it."""
    silent: int
    reason: str
    created_ms: int
    changed_ms: int
    eta_ms: int | None
    """When it will be done if nothing is found, unix ms; None once it has ended."""


class Step(Struct, frozen=True):
    """One move of a rollout."""

    at_ms: int
    stage: str
    step: int
    exposed: int
    """Boards that shall run the candidate from then on."""
    reason: str
    by: str
    """`operator` or `controller`."""


class Cohort(Struct, frozen=True):
    """One board of a rollout."""

    device: str
    exposed: bool
    status: str
    silent: bool
    reason: str
    """Why it failed."""


class RolloutDetail(Struct, frozen=True):
    """A rollout with its plan, its history and its boards."""

    summary: Rollout
    plan: Plan
    state: State
    findings: list[Finding]
    """Of the last look at the gates."""
    steps: list[Step]
    """The newest first."""
    cohort: list[Cohort]
    """In the order in which they get the candidate, at most 1,000."""
