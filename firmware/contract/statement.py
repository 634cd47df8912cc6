"""Signed statements of a publisher: which keys count, and leave to go back to an older model.

Runs on MicroPython and CPython, touches no file and verifies nothing by itself. All integers are little-endian.

    at 0    magic "EWS1"
    at 4    key id of the signer (8), ES256 signature r || s (64) over SHA-256(magic || body)
    at 76   body: u8 kind, then

    KEYS        u32 number, u32 until, u8 keys (0 or 1), that key's x || y (64), u8 ids, key ids (8 each)
    DOWNGRADE   sha256 of the artifact (32), u32 counter, u32 expires

The magic is part of what is signed and no artifact begins with it, so neither can pass for the other. A body has no
bytes to spare: one statement has one form, and `s` is in the lower half of its range as in artifacts.

KEYS hands over to a new key, which then signs in the signer's place; the signer's own signature on models counts until
`until` (unix seconds) and on statements no longer. The ids name keys that are revoked for ever. `number` rises from one
statement of a publisher to the next.

DOWNGRADE lets a board whose anti-rollback counter is at most `counter` install the artifact, whatever its sequence,
until `expires` (unix seconds, 0 = never). It lowers no counter, and the next newer model a board commits ends it.
"""

import struct
from hashlib import sha256

from contract import wire
from contract.artifact import KEY_ID_BYTES, MAX_LOW_S, ArtifactError

MAGIC = b"EWS1"
KEYS = 1
DOWNGRADE = 2
PUBLIC_KEY_BYTES = 64
MAX_REVOKED = 8  # ids of one statement

_BODY_AT = 4 + KEY_ID_BYTES + 64
_KEYS = "<BIIB"
_DOWNGRADE = "<B32sII"


class Statement:
    """A statement taken apart, its signature unchecked; raises ArtifactError: BAD_FORMAT, BAD_SIGNATURE for a high s.

    signer: key id; digest: what is signed; kind KEYS: number, until, new_key (x || y or b""), revoked ([key id]);
    kind DOWNGRADE: sha256, counter, expires.
    """

    def __init__(self, data: "bytes | memoryview") -> None:
        data = bytes(data)
        if not _BODY_AT < len(data) <= wire.MAX_STATEMENT_BYTES or data[:4] != MAGIC:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "not a statement")
        self.signer = data[4 : 4 + KEY_ID_BYTES]
        self.signature = data[4 + KEY_ID_BYTES : _BODY_AT]
        if int.from_bytes(self.signature[32:], "big") > MAX_LOW_S:
            raise ArtifactError(wire.REASON_BAD_SIGNATURE, "not in low-s form")
        body = data[_BODY_AT:]
        self.digest = signed_digest(body)
        self.kind = body[0]
        if self.kind == KEYS:
            expected = self._read_keys(body)
        elif self.kind == DOWNGRADE:
            expected = struct.calcsize(_DOWNGRADE)
            if len(body) == expected:
                _, self.sha256, self.counter, self.expires = struct.unpack(_DOWNGRADE, body)
        else:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "statement of kind %d" % self.kind)
        if len(body) != expected:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "statement of %d bytes" % len(data))

    def _read_keys(self, body: bytes) -> int:
        """Reads what is there; returns the length the body should have."""
        at = struct.calcsize(_KEYS)
        if len(body) <= at:
            return at + 1
        _, self.number, self.until, n_keys = struct.unpack_from(_KEYS, body)
        if n_keys > 1:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "%d new keys" % n_keys)
        self.new_key = body[at : at + n_keys * PUBLIC_KEY_BYTES]
        at += n_keys * PUBLIC_KEY_BYTES
        if len(body) <= at:
            return at + 1
        n_ids = body[at]
        if n_ids > MAX_REVOKED:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "%d revoked keys" % n_ids)
        at += 1
        self.revoked = [body[i : i + KEY_ID_BYTES] for i in range(at, at + n_ids * KEY_ID_BYTES, KEY_ID_BYTES)]
        return at + n_ids * KEY_ID_BYTES


def keys_body(number: int, until: int, new_key: bytes, revoked: "list[bytes]") -> bytes:
    """The body of a KEYS statement; new_key is b"" when nobody takes over."""
    head = struct.pack(_KEYS, KEYS, number, until, 1 if new_key else 0)
    return head + new_key + bytes((len(revoked),)) + b"".join(revoked)


def downgrade_body(digest: bytes, counter: int, expires: int) -> bytes:
    """The body of a DOWNGRADE statement."""
    return struct.pack(_DOWNGRADE, DOWNGRADE, digest, counter, expires)


def signed_digest(body: bytes) -> bytes:
    """SHA-256 of magic || body: what the publisher signs."""
    hasher = sha256(MAGIC)
    hasher.update(body)
    return hasher.digest()


def assemble(signer: bytes, signature: bytes, body: bytes) -> bytes:
    """A whole statement; raises ArtifactError(BAD_FORMAT) for one nobody would take."""
    data = MAGIC + signer + signature + body
    Statement(data)
    return data
