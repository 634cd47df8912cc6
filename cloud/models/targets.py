"""Which artifact of a model a board can run, and why not when there is none. Pure: no I/O, no clock.

What a board accepts is stated once, in `contract.artifact.refusal`, which the firmware runs too. The server adds what
it can know beforehand: the keys the board trusts and the room it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contract import artifact, wire

# What a board needs beside the artifact itself while it downloads: its checkpoints and two littlefs blocks of slack.
_FLASH_SLACK_BYTES = 8192

# The artifact that fails last in this order came closest to fitting; its reason is the one to tell.
_NEARNESS = (
    wire.REASON_WRONG_CLASS,
    wire.REASON_WRONG_FORMAT,
    wire.REASON_WRONG_ARCH,
    wire.REASON_WRONG_ABI,
    wire.REASON_CONTRACT,
    wire.REASON_SCHEMA_MISMATCH,
    wire.REASON_UNKNOWN_KEY,
    wire.REASON_EXPIRED,
    wire.REASON_OLD_SEQUENCE,
    wire.REASON_NO_SPACE,
    wire.REASON_NO_MEMORY,
)


@dataclass(frozen=True, slots=True)
class Board:
    """What a board said of itself in its last HELLO."""

    target: artifact.Target
    key_ids: tuple[str, ...]  # hex, the publisher keys it trusts
    free_flash_bytes: int
    running: str  # sha8 of its model in hex, "" when it has none
    previous: str = ""  # sha8 of the model it ran before: it lies in its other slot
    floor: int = 0  # the lowest sequence its present model lets it go back to
    free_heap_bytes: int | None = None  # during its last session, with its present model loaded; None: not known
    held_bytes: int = 0  # payload of its present model, which the new one replaces


@dataclass(frozen=True, slots=True)
class Candidate:
    """One artifact of the version a board shall run."""

    sha256: str  # hex, of the whole artifact
    key_id: str  # hex
    size_bytes: int
    manifest: artifact.Manifest
    leave_counter: int = -1  # boards whose counter is not above may take it whatever its sequence


@dataclass(frozen=True, slots=True)
class Choice:
    """The artifact for a board, or the reason (wire.REASON_*) and a sentence that says why there is none."""

    candidate: Candidate | None
    reason: int
    detail: str


def refusal(board: Board, candidate: Candidate, now_s: int, shadow: bool = False) -> int:
    """wire.REASON_OK when the board would take the artifact, else the reason it would report.

    `shadow`: to score beside its present model, not to replace it.

    The board checks everything again; this only spares it a download that must fail.
    """
    if _runs(board, candidate) and not shadow:
        return wire.REASON_OK  # neither the counter nor the space matters for what is there already
    reason = artifact.refusal(candidate.manifest, _target_for(board, candidate), now_s, shadow)
    if reason != wire.REASON_OK:
        return reason
    if candidate.key_id not in board.key_ids:
        return wire.REASON_UNKNOWN_KEY
    if candidate.size_bytes + _FLASH_SLACK_BYTES > board.free_flash_bytes:
        return wire.REASON_NO_SPACE
    if board.free_heap_bytes is not None and _ram_bytes(candidate) > board.free_heap_bytes + _freed(board, shadow):
        return wire.REASON_NO_MEMORY
    return wire.REASON_OK


def _freed(board: Board, shadow: bool) -> int:
    """RAM that the present model leaves to another."""
    return 0 if shadow else board.held_bytes


def _ram_bytes(candidate: Candidate) -> int:
    """What a payload takes while it is loaded: machine code and tables lie in RAM as they lie on flash."""
    return candidate.manifest.payload_size


def choose(board: Board, candidates: Sequence[Candidate], now_s: int, shadow: bool = False) -> Choice:
    """The best of a version's artifacts for a board: what it runs already, else the lowest rung it can take.

    The version itself comes before what stands in for it; of one rung, native before blob, and then the smaller.

    Without a match the reason is that of the artifact which came closest.
    """
    verdicts = [(refusal(board, candidate, now_s, shadow), candidate) for candidate in candidates]
    fitting = [candidate for reason, candidate in verdicts if reason == wire.REASON_OK]
    if fitting:
        best = min(
            fitting,
            key=lambda c: (
                not _runs(board, c),
                c.manifest.rung,
                c.manifest.format != artifact.FORMAT_NATIVE,
                c.size_bytes,
                c.sha256,
            ),
        )
        return Choice(best, wire.REASON_OK, "")
    if not verdicts:
        return Choice(None, wire.REASON_WRONG_FORMAT, "the version has no artifact")
    reason, nearest = max(verdicts, key=lambda verdict: (_NEARNESS.index(verdict[0]), verdict[1].sha256))
    return Choice(None, reason, _sentence(board, nearest, reason, shadow))


def _runs(board: Board, candidate: Candidate) -> bool:
    return board.running != "" and candidate.sha256.startswith(board.running)


def _target_for(board: Board, candidate: Candidate) -> artifact.Target:
    """The board's capabilities. What lies in its other slot, or what its publisher gave leave to go back to, may be
    below its anti-rollback counter."""
    of = board.target
    lowest = of.sequence
    if board.previous and candidate.sha256.startswith(board.previous):
        lowest = min(lowest, board.floor)
    if of.sequence <= candidate.leave_counter:
        lowest = 0
    return artifact.Target(of.arch, of.abi, of.formats, of.schema_hash, of.contract, lowest)


def _sentence(board: Board, candidate: Candidate, reason: int, shadow: bool) -> str:
    target, manifest = board.target, candidate.manifest
    match reason:
        case wire.REASON_WRONG_CLASS:
            return f"the artifact is a {manifest.artifact_class}, not a model"
        case wire.REASON_WRONG_FORMAT:
            return f"the board does not take {manifest.format} artifacts"
        case wire.REASON_WRONG_ARCH:
            return f"the board is {target.arch}, the nearest artifact is for {manifest.arch}"
        case wire.REASON_WRONG_ABI:
            return f"the board loads .mpy ABI {_abi(target.abi)}, the artifact has {_abi(manifest.abi)}"
        case wire.REASON_SCHEMA_MISMATCH:
            return f"the model takes {manifest.schema}, the board computes other features ({target.schema_hash.hex()})"
        case wire.REASON_CONTRACT:
            return f"the model needs contract {manifest.min_contract}, the firmware speaks {target.contract}"
        case wire.REASON_UNKNOWN_KEY:
            return f"the board does not trust publisher key {candidate.key_id}"
        case wire.REASON_EXPIRED:
            return "the artifact has expired"
        case wire.REASON_OLD_SEQUENCE:
            return f"the board takes nothing below sequence {target.sequence}, the artifact has {manifest.sequence}"
        case wire.REASON_NO_MEMORY:
            free = (board.free_heap_bytes or 0) + _freed(board, shadow)
            return f"the model takes {_ram_bytes(candidate)} bytes of RAM, the board would have {free} free"
        case _:
            return f"the artifact has {candidate.size_bytes} bytes, the board {board.free_flash_bytes} free"


def _abi(abi: int) -> str:
    return f"{abi >> 8}.{abi & 255}"
