"""The signed container a model travels in: header | signature block | manifest | golden | payload.

Runs on MicroPython and CPython, touches no file. All integers are little-endian.

    at 0    header, 20 bytes      magic "EWA1", u16 version, u16 flags, u32 manifest, golden and payload lengths
    at 20   signature, 72 bytes   key id (8), ES256 signature r || s (64) over header || manifest
    at 92   manifest              msgpack map, keys in ascending order: FIELDS below
    then    golden                golden_count rows: n_features int32, then the score as float32
    then    payload               the .mpy of a native model, or a table blob

The signature covers the header and the manifest, the manifest the digests of golden and payload: the first chunk of a
download decides whether the rest is worth fetching, and its length is known before the second is asked for. The
identity of an artifact is the SHA-256 of the whole file; signing is deterministic and `s` must be in the lower half of
its range, so no one but the publisher can make a second file of the same content.
"""

import struct
from hashlib import sha256

from contract import msgpack, profile, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from typing import Any

MAGIC = b"EWA1"
VERSION = 1
HEADER_BYTES = 20
SIGNATURE_BYTES = 72
MANIFEST_AT = HEADER_BYTES + SIGNATURE_BYTES
KEY_ID_BYTES = 8
MAX_MANIFEST_BYTES = 2048
MAX_GOLDEN_BYTES = 8192
MAX_PAYLOAD_BYTES = 262144
MAX_HEAD_BYTES = MANIFEST_AT + MAX_MANIFEST_BYTES
DEFLATE_WINDOW_BITS = 8  # deflated, an artifact repeats nothing further back than the 256 bytes a board keeps

CLASS_MODEL = "model"
CLASS_SHADOW = "shadow"  # signed to score beside a model and never to decide
FORMAT_NATIVE = "native"
FORMAT_BLOB = "blob"
ANY_ARCH = "any"  # arch of a blob, whose abi is 0

# Half the order of P-256, rounded down: the largest `s` of a signature in low form.
MAX_LOW_S = 0x7FFFFFFF800000007FFFFFFFFFFFFFFFDE737D56D38BCF4279DCE5617E3192A8

_HEADER = "<4sHHIII"
_MAX_KEYS = 48
_MAX_KEY_CHARS = 32

# Kinds of manifest values. For TEXT and BYTES the limits are lengths, for UINT values; a REAL is a finite float32.
_TEXT = 0
_UINT = 1
_BYTES = 2
_REAL = 3
SIZED = (_TEXT, _BYTES)  # their limits are lengths

# key, kind, lowest, highest
FIELDS = (
    ("abi", _UINT, 0, 0xFFFF),  # mpy ABI of a native payload, major * 256 + minor
    ("arch", _TEXT, 1, wire.MAX_ARCH),
    ("card_sha256", _BYTES, 32, 32),  # the model card: how it was trained and how well it does
    ("class", _TEXT, 1, 16),
    ("created", _UINT, 0, wire.MAX_U32),  # unix seconds
    ("detector", _TEXT, 1, 48),  # the estimator, for people
    ("expires", _UINT, 0, wire.MAX_U32),  # unix seconds after which no board may install it; 0 = never
    ("format", _TEXT, 1, 16),
    ("golden_count", _UINT, 1, 0xFFFF),
    ("golden_sha256", _BYTES, 32, 32),
    ("margin", _REAL, 0, 0),  # a score nearer to the threshold than this is doubtful; >= 0
    ("min_contract", _UINT, 1, 0xFF),  # the oldest protocol version a board may have
    ("n_features", _UINT, 1, wire.MAX_FEATURES),
    ("name", _TEXT, 1, wire.MAX_MODEL_NAME),
    ("payload_sha256", _BYTES, 32, 32),
    ("payload_size", _UINT, 1, MAX_PAYLOAD_BYTES),
    ("schema", _TEXT, 1, 512),
    ("schema_hash", _BYTES, 8, 8),
    ("sequence", _UINT, 0, wire.MAX_U32),  # anti-rollback: a board that committed 7 takes no 6
    ("threshold", _REAL, 0, 0),  # anomalous when the score is above
    ("tolerance", _REAL, 0, 0),  # largest difference from a golden score; >= 0
    ("version", _TEXT, 5, wire.MAX_VERSION),
)
# The lowest sequence a board may return to, from what its other slot holds, once it committed this model. Optional; 0
# or absent allows the way back. A download below the board's counter is never allowed.
ROLLBACK_FLOOR = ("rollback_floor", _UINT, 0, wire.MAX_U32)
# What stands in for a version on boards that cannot take it, such as a forest of fewer trees: rung 1 before 2, and the
# share of decisions in which it differs from the version itself (rung 0), as the publisher measured it. Optional.
RUNG = ("rung", _UINT, 0, 9)
DISAGREEMENT = ("disagreement", _REAL, 0, 0)
# The model's quantile bins and what they held in training, see contract/profile.py. Optional, but never one alone.
BINS = ("bins", _BYTES, profile.SCORE_BYTES, profile.SCORE_BYTES + profile.FEATURE_BYTES * wire.MAX_FEATURES)
SHARES = ("shares", _BYTES, profile.SCORE_BINS, profile.SCORE_BINS + profile.FEATURE_BINS * wire.MAX_FEATURES)
OPTIONAL = (ROLLBACK_FLOOR, RUNG, DISAGREEMENT, BINS, SHARES)


class ArtifactError(Exception):
    """Bytes that are not an acceptable artifact; `code` is one of the REASON_* values."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return wire.REASON_NAMES[self.code] + (": " + self.detail if self.detail else "")


class Header:
    """The lengths of an artifact's parts, in bytes, within their limits."""

    def __init__(self, manifest_len: int, golden_len: int, payload_len: int) -> None:
        if not 1 <= manifest_len <= MAX_MANIFEST_BYTES:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "manifest of %d bytes" % manifest_len)
        if not 1 <= golden_len <= MAX_GOLDEN_BYTES:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "golden vectors of %d bytes" % golden_len)
        if not 1 <= payload_len <= MAX_PAYLOAD_BYTES:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "payload of %d bytes" % payload_len)
        self.manifest_len = manifest_len
        self.golden_len = golden_len
        self.payload_len = payload_len
        self.golden_at = MANIFEST_AT + manifest_len
        self.payload_at = self.golden_at + golden_len
        self.size = self.payload_at + payload_len

    def pack(self) -> bytes:
        """The header's 20 bytes."""
        return struct.pack(_HEADER, MAGIC, VERSION, 0, self.manifest_len, self.golden_len, self.payload_len)


def parse_header(data: "bytes | memoryview") -> Header:
    """The header at the start of `data`; raises ArtifactError(CUT) below 20 bytes, else BAD_FORMAT."""
    if len(data) < HEADER_BYTES:
        raise ArtifactError(wire.REASON_CUT, "%d bytes of header" % len(data))
    magic, version, flags, manifest_len, golden_len, payload_len = struct.unpack_from(_HEADER, data, 0)
    if magic != MAGIC:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "magic")
    if version != VERSION:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "container version %d" % version)
    if flags != 0:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "flags %d" % flags)
    return Header(manifest_len, golden_len, payload_len)


class Head:
    """Everything before the golden vectors, its manifest unread until the caller has checked the signature.

    Raises ArtifactError: CUT when `data` ends before the manifest does, BAD_FORMAT, or BAD_SIGNATURE for a signature
    whose `s` is in the upper half of its range.
    """

    def __init__(self, data: "bytes | memoryview") -> None:
        self.header = parse_header(data)
        if len(data) < self.header.golden_at:
            raise ArtifactError(wire.REASON_CUT, "%d of %d bytes of head" % (len(data), self.header.golden_at))
        key_end = HEADER_BYTES + KEY_ID_BYTES
        self.key_id = bytes(data[HEADER_BYTES:key_end])
        self.signature = bytes(data[key_end:MANIFEST_AT])
        if int.from_bytes(self.signature[32:], "big") > MAX_LOW_S:
            raise ArtifactError(wire.REASON_BAD_SIGNATURE, "not in low-s form")
        self._manifest = bytes(data[MANIFEST_AT : self.header.golden_at])
        self.digest = signed_digest(data[:HEADER_BYTES], self._manifest)

    def manifest(self) -> "Manifest":
        """The manifest, consistent with the header; raises ArtifactError(BAD_FORMAT)."""
        manifest = parse_manifest(self._manifest)
        if manifest.payload_size != self.header.payload_len:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "payload_size")
        if manifest.golden_count * golden_row_bytes(manifest.n_features) != self.header.golden_len:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "golden_count")
        return manifest


class Manifest:
    """What the publisher says about a model, every field of FIELDS within its limits."""

    def __init__(self, fields: "dict[str, Any]") -> None:
        _check_fields(fields)
        self.abi: int = fields["abi"]
        self.arch: str = fields["arch"]
        self.card_sha256: bytes = fields["card_sha256"]
        self.artifact_class: str = fields["class"]
        self.created: int = fields["created"]
        self.detector: str = fields["detector"]
        self.expires: int = fields["expires"]
        self.format: str = fields["format"]
        self.golden_count: int = fields["golden_count"]
        self.golden_sha256: bytes = fields["golden_sha256"]
        self.margin: float = fields["margin"]
        self.min_contract: int = fields["min_contract"]
        self.n_features: int = fields["n_features"]
        self.name: str = fields["name"]
        self.payload_sha256: bytes = fields["payload_sha256"]
        self.payload_size: int = fields["payload_size"]
        self.schema: str = fields["schema"]
        self.schema_hash: bytes = fields["schema_hash"]
        self.sequence: int = fields["sequence"]
        self.threshold: float = fields["threshold"]
        self.tolerance: float = fields["tolerance"]
        self.version: str = fields["version"]
        self.rollback_floor: int = fields.get("rollback_floor", 0)
        self.rung: int = fields.get("rung", 0)
        self.disagreement: float = fields.get("disagreement", 0.0)
        self.bins: bytes = fields.get("bins", b"")
        self.shares: bytes = fields.get("shares", b"")
        if self.margin < 0 or self.tolerance < 0:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "margin or tolerance below 0")
        if not 0 <= self.disagreement <= 1 or (self.disagreement and not self.rung):
            raise ArtifactError(wire.REASON_BAD_FORMAT, "disagreement")
        unsound = profile.why_unsound(self.bins, self.shares, self.n_features)
        if unsound:
            raise ArtifactError(wire.REASON_BAD_FORMAT, unsound)
        if not valid_version(self.version):
            raise ArtifactError(wire.REASON_BAD_FORMAT, "version")
        if self.rollback_floor > self.sequence:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "rollback_floor above sequence")
        if sha256(self.schema.encode()).digest()[:8] != self.schema_hash:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "schema_hash")


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in `data`; raises ArtifactError(BAD_FORMAT).

    Keys this version does not know are ignored (a publisher who needs one understood raises min_contract). Keys come
    in ascending order, so that none comes twice and no two readers see different values.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "manifest of %d bytes" % len(data))
    fields: "dict[str, Any]" = {}
    last = ""
    try:
        reader = msgpack.Reader(data)
        for _ in range(reader.take_map(1, _MAX_KEYS)):
            key = reader.take_str(1, _MAX_KEY_CHARS)
            if key <= last:
                raise ArtifactError(wire.REASON_BAD_FORMAT, "manifest key " + key)
            last = key
            fields[key] = reader.take(0)
        reader.finish()
    except wire.WireError as error:
        raise ArtifactError(wire.REASON_BAD_FORMAT, "manifest " + str(error))
    return Manifest(fields)


class Target:
    """What a board can run: arch, abi (major * 256 + minor), formats (FORMAT_* bits), schema_hash (8 bytes), contract
    (its protocol version) and sequence (its anti-rollback counter). The board builds it from itself, the cloud from
    HELLO."""

    def __init__(self, arch: str, abi: int, formats: int, schema_hash: bytes, contract: int, sequence: int) -> None:
        self.arch = arch
        self.abi = abi
        self.formats = formats
        self.schema_hash = schema_hash
        self.contract = contract
        self.sequence = sequence


def refusal(manifest: Manifest, target: Target, now_s: int, shadow: bool = False) -> int:
    """Why `target` may not install the model, as a REASON_* code; REASON_OK when it may.

    `shadow`: it is only to score beside another, which what is signed to decide may do as well.

    `now_s` is unix time in seconds, or 0 when the clock was never set: expiry then goes unchecked, since a board that
    has no time could otherwise never be updated.
    """
    if manifest.artifact_class != CLASS_MODEL and not (shadow and manifest.artifact_class == CLASS_SHADOW):
        return wire.REASON_WRONG_CLASS
    if manifest.min_contract > target.contract:
        return wire.REASON_CONTRACT
    reason = _format_refusal(manifest, target)
    if reason != wire.REASON_OK:
        return reason
    if manifest.schema_hash != target.schema_hash:
        return wire.REASON_SCHEMA_MISMATCH
    if manifest.sequence < target.sequence:
        return wire.REASON_OLD_SEQUENCE
    if manifest.expires and now_s and now_s >= manifest.expires:
        return wire.REASON_EXPIRED
    return wire.REASON_OK


def _format_refusal(manifest: Manifest, target: Target) -> int:
    if manifest.format == FORMAT_NATIVE and target.formats & wire.FORMAT_NATIVE:
        if manifest.arch != target.arch:
            return wire.REASON_WRONG_ARCH
        # A .mpy that holds machine code loads only under the exact ABI version it was linked for.
        return wire.REASON_OK if manifest.abi == target.abi else wire.REASON_WRONG_ABI
    if manifest.format == FORMAT_BLOB and target.formats & wire.FORMAT_BLOB:
        return wire.REASON_OK if manifest.arch == ANY_ARCH else wire.REASON_WRONG_ARCH
    return wire.REASON_WRONG_FORMAT


def split(data: bytes) -> "tuple[Head, Manifest, bytes, bytes]":
    """(Head, Manifest, golden, payload) of a whole artifact, lengths and digests checked, the signature not.

    Raises ArtifactError: CUT for a wrong total length, BAD_DIGEST for parts that are not the signed ones.
    """
    head = Head(data)
    if len(data) != head.header.size:
        raise ArtifactError(wire.REASON_CUT, "%d of %d bytes" % (len(data), head.header.size))
    manifest = head.manifest()
    golden = data[head.header.golden_at : head.header.payload_at]
    payload = data[head.header.payload_at :]
    if sha256(golden).digest() != manifest.golden_sha256:
        raise ArtifactError(wire.REASON_BAD_DIGEST, "golden vectors")
    if sha256(payload).digest() != manifest.payload_sha256:
        raise ArtifactError(wire.REASON_BAD_DIGEST, "payload")
    return head, manifest, golden, payload


def signed_digest(header: "bytes | memoryview", manifest: bytes) -> bytes:
    """SHA-256 of header || manifest: what the publisher signs."""
    hasher = sha256(header)
    hasher.update(manifest)
    return hasher.digest()


def key_id(public_key: bytes) -> bytes:
    """The 8-byte name of a public key, x || y in 64 bytes."""
    return sha256(public_key).digest()[:KEY_ID_BYTES]


def golden_row_bytes(n_features: int) -> int:
    """Bytes of one golden vector: its features as int32, its score as float32."""
    return 4 * n_features + 4


def golden_into(row: "bytes | memoryview", features: "array[int]") -> float:
    """Unpacks one golden row into `features`, array('i') of n_features, and returns its score."""
    n_features = len(features)
    for i in range(n_features):
        features[i] = struct.unpack_from("<i", row, 4 * i)[0]
    return struct.unpack_from("<f", row, 4 * n_features)[0]


def valid_version(version: str) -> bool:
    """True for MAJOR.MINOR.PATCH with an optional -suffix of a-z, 0-9, "." and "-" (semver.org, without build)."""
    dash = version.find("-")
    numbers = (version if dash < 0 else version[:dash]).split(".")
    if len(numbers) != 3:
        return False
    for number in numbers:
        if not _only(number, "0123456789") or (number[0] == "0" and number != "0"):
            return False
    return dash < 0 or _only(version[dash + 1 :], "abcdefghijklmnopqrstuvwxyz0123456789.-")


def _only(text: str, allowed: str) -> bool:
    return len(text) > 0 and all(c in allowed for c in text)


def _check_fields(fields: "dict[str, Any]") -> None:
    for key, kind, low, high in FIELDS:
        if key not in fields:
            raise ArtifactError(wire.REASON_BAD_FORMAT, "no " + key)
        if not _valid(fields[key], kind, low, high):
            raise ArtifactError(wire.REASON_BAD_FORMAT, key)
    for key, kind, low, high in OPTIONAL:
        if key in fields and not _valid(fields[key], kind, low, high):
            raise ArtifactError(wire.REASON_BAD_FORMAT, key)


def _valid(value: "Any", kind: int, low: int, high: int) -> bool:
    if kind == _TEXT:
        if not isinstance(value, str) or not low <= len(value) <= high:
            return False
        return all(" " <= c <= "~" for c in value)  # printable ASCII
    if kind == _BYTES:
        return isinstance(value, bytes) and low <= len(value) <= high
    if kind == _UINT:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return isinstance(value, float) and value - value == 0  # neither infinite nor NaN
