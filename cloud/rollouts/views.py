"""What the API says of rollouts."""

from msgspec import Struct

from cloud.devices.views import Stability
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


class Disagreement(Struct, frozen=True):
    """A window on which the candidate, scoring in the shadow, decided otherwise than the model that decides."""

    device: str
    epoch: int
    seq: int
    at_ms: int
    candidate_says: str
    """`anomaly` or `normal`; the other model said the other."""
    score: float
    """The candidate's."""
    sha8: str
    """The candidate's artifact."""
    features: list[int]
    """int32 (n_features,)."""


class Shadow(Struct, frozen=True):
    """What a comparison in the shadow has found so far."""

    compared: int
    """Windows both models scored, as the boards counted them."""
    disagreed: int
    """Of these, windows they decided differently."""
    sent: int
    """Of these, windows that boards sent with their features: at most 16 in the period of a HEALTH record."""
    latest: list[Disagreement]
    """The newest first, at most 20."""


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
    stability: list[Stability]
    """Per model the cohort ran since the start, whether its boards see what it was trained on. It stops nothing."""
    shadow: Shadow | None = None
    """Of a comparison in the shadow only."""
