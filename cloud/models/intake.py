"""What an upload must be before the registry looks at it: complete, consistent and signed by a trusted publisher."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cloud.errors import BadArtifact, BadRequest
from contract import artifact, table, wire
from contract.table_gaussian import Gaussian

MAX_CARD_BYTES = 256 * 1024
MAX_ARTIFACTS = 16  # of one upload

# What all artifacts of one version share; only arch, ABI, format and the payload differ from target to target.
COMMON = ("name", "version", "sequence", "schema", "detector", "threshold", "margin")
# A stand-in (manifest.rung above 0) is another model for the same purpose.
COMMON_OF_STAND_INS = COMMON[:4]


@dataclass(frozen=True, slots=True)
class Checked:
    """One artifact whose digests and signature hold."""

    data: bytes
    sha256: str  # hex, of the whole file
    key_id: str  # hex
    manifest: artifact.Manifest


@dataclass(frozen=True, slots=True)
class Submission:
    """The artifacts of one version, one per target, and the cards they were signed with."""

    artifacts: tuple[Checked, ...]
    cards: tuple[bytes, ...]
    card: dict[str, Any]  # of the first artifact that came with one, else empty

    @property
    def manifest(self) -> artifact.Manifest:
        """That of the lowest rung: what its artifacts share is the version's."""
        return min((item.manifest for item in self.artifacts), key=lambda manifest: manifest.rung)


def check(files: Sequence[bytes], cards: Sequence[bytes], trusted: Mapping[str, bytes]) -> Submission:
    """The submission, or BadArtifact / BadRequest naming the first thing wrong.

    `trusted` maps the hex ids of the keys that count to their public keys, x || y in 64 bytes.
    """
    if not 1 <= len(files) <= MAX_ARTIFACTS:
        raise BadRequest(f"{len(files)} artifacts in one upload", f"send 1 to {MAX_ARTIFACTS}")
    checked = tuple(check_artifact(data, trusted) for data in files)
    first = min((item.manifest for item in checked), key=lambda manifest: manifest.rung)
    targets: set[tuple[str, int, str, int]] = set()
    for item in checked:
        fields = COMMON if item.manifest.rung == first.rung else COMMON_OF_STAND_INS
        for field in (*fields, "artifact_class"):
            if getattr(item.manifest, field) != getattr(first, field):
                raise BadArtifact(
                    f"the artifacts disagree on {field}", "upload the artifacts of one export together, and only those"
                )
        target = (item.manifest.arch, item.manifest.abi, item.manifest.format, item.manifest.rung)
        if target in targets:
            raise BadArtifact(f"two artifacts for {describe(item.manifest)}", "upload one per target")
        targets.add(target)
    by_digest = {hashlib.sha256(card).digest(): _check_card(card) for card in cards}
    signed = [item.manifest.card_sha256 for item in checked]
    if not by_digest.keys() <= set(signed):
        raise BadArtifact("a model card is not one the publisher signed", "send the cards of the same export")
    card: dict[str, Any] = next((by_digest[digest] for digest in signed if digest in by_digest), dict[str, Any]())
    return Submission(checked, tuple(cards), card)


def check_artifact(data: bytes, trusted: Mapping[str, bytes]) -> Checked:
    """One artifact with every digest and its signature checked; raises BadArtifact."""
    try:
        head, manifest, _golden, payload = artifact.split(data)
    except artifact.ArtifactError as error:
        raise BadArtifact(str(error), "export the model again with `edgewise model export`") from None
    key_id = head.key_id.hex()
    public_key = trusted.get(key_id)
    if public_key is None:
        raise BadArtifact(
            f"signed by {key_id}, a key this server does not trust",
            "check who signed it; `edgewise keys trust` makes a publisher's key count",
        )
    if not signature_holds(head.digest, head.signature, public_key):
        raise BadArtifact(wire.REASON_NAMES[wire.REASON_BAD_SIGNATURE], "get the file again from its publisher")
    if manifest.artifact_class not in (artifact.CLASS_MODEL, artifact.CLASS_SHADOW):
        raise BadArtifact(f"it is a {manifest.artifact_class}, not a model", "publish models only")
    if manifest.format == artifact.FORMAT_BLOB:
        _check_table(manifest, payload)
    return Checked(data, hashlib.sha256(data).hexdigest(), key_id, manifest)


def _check_table(manifest: artifact.Manifest, payload: bytes) -> None:
    """Raises BadArtifact for a table blob that each board would refuse, after its download, at the self-test."""
    next_step = "export the model again with `edgewise model export --target blob`"
    try:
        held = Gaussian(payload) if table.kind_of(payload) == table.GAUSSIAN else table.Forest(payload)
        held.check()
    except table.TableError as error:
        raise BadArtifact(f"its table blob is not sound: {error}", next_step) from None
    for what, found, signed in (
        ("n_features", held.n_features, manifest.n_features),
        ("threshold", held.threshold, manifest.threshold),
    ):
        if found != signed:
            raise BadArtifact(f"its table blob has {what} {found:g}, its manifest {signed:g}", next_step)


def public_key_of(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key x || y; raises ValueError for a point that is not on the curve."""
    x, y = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def signature_holds(digest: bytes, signature: bytes, public_key: bytes) -> bool:
    """True when `signature` (r || s) is the key's ES256 signature of `digest`."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        public_key_of(public_key).verify(
            utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        )
    except InvalidSignature:
        return False
    return True


def describe(manifest: artifact.Manifest) -> str:
    """The target in words, such as `xtensawin native (ABI 6.3)` or `any blob`."""
    rung = f", rung {manifest.rung}" if manifest.rung else ""
    if manifest.format == artifact.FORMAT_NATIVE:
        return f"{manifest.arch} native (ABI {manifest.abi >> 8}.{manifest.abi & 255}){rung}"
    return f"{manifest.arch} {manifest.format}{rung}"


def _check_card(card: bytes) -> dict[str, Any]:
    if len(card) > MAX_CARD_BYTES:
        raise BadRequest(f"a model card has {len(card)} bytes", f"keep it below {MAX_CARD_BYTES}")
    try:
        return msgspec.json.decode(card, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadArtifact(f"a model card is not a JSON object: {error}", "export the model again") from None
