"""What the registry tells the outside: the JSON shapes of /api/v1/models, /keys and /desired."""

from typing import Any

from msgspec import Struct


class PublisherKey(Struct, frozen=True):
    """A public key whose artifacts the server accepts until it is revoked."""

    key_id: str
    """First 8 bytes of the SHA-256 of the public key, hex."""
    public_key: str
    """x || y, 128 hex digits."""
    label: str
    added_ms: int
    revoked_ms: int | None
    until_ms: int | None = None
    """It has handed over: its signature on models counts until then."""
    boards: int = 0
    """Boards that trust it, as far as they have said."""


class Announced(Struct, frozen=True):
    """A publisher's statement that the server has taken."""

    signer: str
    """Key id, hex."""
    new_key_id: str
    """The key that takes over, hex; "" when none does."""
    revoked: list[str]
    sha256: str | None
    """The artifact that boards may go back to."""


class Artifact(Struct, frozen=True):
    """One signed file of a version, for one target."""

    sha256: str
    """Of the whole file, hex; GET /api/v1/artifacts/{sha256} gives the file."""
    arch: str
    abi: int
    """.mpy ABI as major * 256 + minor; 0 for a blob."""
    format: str
    target: str
    """The target in words."""
    size: int
    """Bytes of the whole file."""
    key_id: str
    created_ms: int
    manifest: dict[str, Any]


class Version(Struct, frozen=True):
    """One immutable version of a model."""

    name: str
    version: str
    sequence: int
    """Anti-rollback counter: a board that committed it takes nothing lower."""
    detector: str
    schema: str
    schema_hash: str
    threshold: float
    margin: float
    created_ms: int
    aliases: list[str]
    targets: list[str]
    boards_running: int
    boards_wanted: int
    """Boards that are told to run it."""


class VersionDetail(Struct, frozen=True):
    """A version with its artifacts, card and where it runs."""

    summary: Version
    artifacts: list[Artifact]
    card: dict[str, Any]
    running: list[str]
    """Boards whose last HELLO named it, at most 1,000."""
    wanted: list[str]
    note: str = ""
    """What operators have to say of it."""
    status: dict[str, int] = {}
    """Boards by the last step of an update to it that they reported, such as committed or refused."""


class AliasChange(Struct, frozen=True):
    """One step in the history of an alias."""

    name: str
    alias: str
    version: str | None
    previous: str | None
    note: str
    changed_ms: int


class Board(Struct, frozen=True):
    """What a change means for one board."""

    device: str
    sha256: str | None
    """The artifact it is told to run."""
    why: str
    """Why there is none for it; empty otherwise."""


class Deployed(Struct, frozen=True):
    """The outcome of a publish, promote or assign: all of it happened, or none."""

    name: str
    version: str
    artifacts: list[str]
    """SHA-256 of each artifact that was added now."""
    boards: list[Board]
    """Boards whose desired model changed, or for which none fits."""


class Difference(Struct, frozen=True):
    """One fact in which two versions differ."""

    what: str
    before: Any
    after: Any


class ModelRun(Struct, frozen=True):
    """From `since_ms` on the board reported this model."""

    device: str
    since_ms: int
    sha8: str
    name: str
    version: str


class Trace(Struct, frozen=True):
    """From an alert to the model that raised it, the data and the code it was made of."""

    device: str
    epoch: int
    seq: int
    at_ms: int
    kind: str
    score: float
    threshold: float
    model_sha8: str
    artifact: Artifact | None
    """None when the registry does not hold the model."""
    version: Version | None
    card: dict[str, Any]
    deployed_ms: int | None
    """When the cloud told the board to run it."""
    deployed_cause: str
    running_since_ms: int | None
    """When the board first said it runs it."""


class Collected(Struct, frozen=True):
    """What garbage collection removed."""

    blobs: list[str]
    bytes: int
