"""What a publisher's statement on keys makes of a keyring: the next key of a line, and keys that are revoked.

Runs on MicroPython and CPython, apart from keyring.py because a board that takes a model has no need of it.
"""

from contract import artifact, statement, wire
from contract.artifact import ArtifactError
from contract.keyring import Key, Keyring, is_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Verify = Callable[[bytes, bytes, bytes], bool]


def apply(ring: Keyring, data: "bytes | memoryview", verify: "Verify", now_s: int = 0) -> Keyring:
    """The keyring after a KEYS statement, `ring` left as it is; raises ArtifactError.

    verify(digest, signature, public key) is ES256. What costs nothing is asked first: a statement that was applied
    before is told (OLD_STATEMENT, RETIRED_KEY) without a verification. now_s only decides what may be forgotten.
    """
    said = statement.Statement(data)
    if said.kind != statement.KEYS:
        raise ArtifactError(wire.REASON_WRONG_CLASS, "no statement on keys")
    public = ring.statement_key(said.signer)
    reached = ring.keys[said.signer].number
    if said.number <= reached:
        raise ArtifactError(wire.REASON_OLD_STATEMENT, "%d, after %d" % (said.number, reached))
    if not verify(said.digest, said.signature, public):
        raise ArtifactError(wire.REASON_BAD_SIGNATURE)
    after = _copy(ring)
    signer = after.keys[said.signer]
    signer.number = said.number
    if said.new_key:
        _hand_over(after, said, signer, now_s)
    elif said.until:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "an end without a successor")
    for key_id in said.revoked:
        key = after.keys.get(key_id)
        if key is not None and key.line != signer.line:
            raise ArtifactError(wire.REASON_OTHERS_KEY, key_id.hex())
        after.revoke(key_id)
    if not any(key.newest for key in after.keys.values() if key.line == signer.line):
        raise ArtifactError(wire.REASON_BAD_FORMAT, "no key would be left to sign with")
    return after


def _hand_over(after: Keyring, said: statement.Statement, signer: Key, now_s: int) -> None:
    new_id = artifact.key_id(said.new_key)
    if new_id in after.revoked:
        raise ArtifactError(wire.REASON_REVOKED_KEY, new_id.hex())
    if new_id in after.keys:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "key %s is there already" % new_id.hex())
    signer.newest = False
    signer.until = max(said.until, 1)  # 1970: not a moment longer
    if len(after.keys) >= after.max_keys:
        over = [key_id for key_id, key in after.keys.items() if is_over(key, now_s)]
        if not over:
            raise ArtifactError(wire.REASON_NO_SPACE, "%d keys" % after.max_keys)
        for key_id in over:
            after.revoke(key_id)
    after.keys[new_id] = Key(said.new_key, signer.line, said.number)


def _copy(ring: Keyring) -> Keyring:
    twin = Keyring(ring.max_keys, ring.max_revoked)
    twin.revoked = list(ring.revoked)
    for key_id, key in ring.keys.items():
        twin.keys[key_id] = Key(key.public, key.line, key.number, key.newest, key.until)
    return twin
