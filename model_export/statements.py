"""What a publisher signs besides models: the next key, keys that no longer count, leave to go back to an older model.

The bytes are those of contract/statement.py. Whoever has such a file can hand it on, and no one can change it.
"""

from collections.abc import Sequence
from pathlib import Path

from contract import artifact, handover, statement
from contract.keyring import Keyring
from model_export import sign
from model_export.keys import PublisherKey, PublisherKeyError

SUFFIX = ".statement"


def hand_over(old: PublisherKey, new: PublisherKey, number: int, until: int, revoked: Sequence[bytes] = ()) -> bytes:
    """`new` signs from now on; models signed by `old` count until `until`, unix seconds, 0 = no longer.

    number: higher than in every earlier statement of these keys, such as the unix seconds of now. revoked: key ids,
    also that of `old` where it was stolen.
    """
    return _signed(old, statement.keys_body(number, max(until, 1), new.public, list(revoked)))


def revoke(newest: PublisherKey, number: int, revoked: Sequence[bytes]) -> bytes:
    """Keys that `newest` or one before it handed over count no longer, for ever."""
    return _signed(newest, statement.keys_body(number, 0, b"", list(revoked)))


def leave(newest: PublisherKey, digest: bytes, counter: int, expires: int = 0) -> bytes:
    """Boards whose anti-rollback counter is at most `counter` may install the artifact with this SHA-256.

    expires: unix seconds, 0 = never.
    """
    return _signed(newest, statement.downgrade_body(digest, counter, expires))


def ring_of(folder: Path, keys: Sequence[PublisherKey]) -> Keyring:
    """What the statements in a folder of keys make of these keys; raises PublisherKeyError(bad-file)."""
    said: list[tuple[int, bytes, Path]] = []
    named: set[bytes] = set()
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            parsed = statement.Statement(path.read_bytes())
        except artifact.ArtifactError as error:
            raise PublisherKeyError("bad-file", f"{path} is no statement: {error}") from None
        if parsed.kind == statement.KEYS:
            said.append((parsed.number, path.read_bytes(), path))
            if parsed.new_key:
                named.add(artifact.key_id(parsed.new_key))
    ring = Keyring()
    for key in keys:
        if key.key_id not in named:
            ring.add(key.key_id, key.public)
    for _, data, path in sorted(said):
        try:
            ring = handover.apply(ring, data, lambda digest, signature, public: sign.verify(public, digest, signature))
        except artifact.ArtifactError as error:
            raise PublisherKeyError("bad-file", f"{path} does not follow from the others: {error}") from None
    return ring


def _signed(key: PublisherKey, body: bytes) -> bytes:
    return statement.assemble(key.key_id, sign.sign(key.private, statement.signed_digest(body)), body)
