"""What must hold before an artifact may be installed: of the offer, of its first piece, and of what lies on flash.

Imported only while an update is under way: a wake has no use for the container format or for elliptic curves.
"""

from array import array
from hashlib import sha256

from contract import artifact, wire
from contract.artifact import ArtifactError
from device import signature, slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from device.files import Files
    from device.trust import Policy
    from device.update_record import Offer


_RESERVE_BYTES = 16384  # of flash, left to the outbox and the records


def check_offer(
    fs: "Files", root: str, places: slots.Slots, offer: "Offer", policy: "Policy", now_s: int, shadow: bool = False
) -> None:
    """Refuses, before anything is fetched, what could not be installed anyway; raises ArtifactError, OSError.

    `shadow`: it is only to score beside the active model, from a slot of its own.

    All of it is asked again of the manifest, which is signed; the offer is not.
    """
    if offer.sha8 in places.known_bad:
        raise ArtifactError(wire.REASON_KNOWN_BAD)
    if not offer.format & policy.formats or offer.format not in wire.FORMAT_NAMES:
        raise ArtifactError(wire.REASON_WRONG_FORMAT)
    if offer.arch not in (policy.arch, artifact.ANY_ARCH):
        raise ArtifactError(wire.REASON_WRONG_ARCH, offer.arch)
    lowest = _lowest(places, offer, policy, now_s)
    if offer.sequence < lowest:
        raise ArtifactError(wire.REASON_OLD_SEQUENCE, "%d, at least %d" % (offer.sequence, lowest))
    if shadow or not places.holds(offer.sha256):
        free = room(fs, root, places.folder(slots.SHADOW if shadow else places.spare()))
        if free < offer.size:
            raise ArtifactError(wire.REASON_NO_SPACE, "%d bytes free" % free)


def check_head(
    data: "bytes | memoryview", offer: "Offer", policy: "Policy", places: slots.Slots, now_s: int, shadow: bool = False
) -> tuple:
    """(Head, Manifest) of the artifact that begins with `data`, if the board may install it; else ArtifactError.

    now_s: unix time in seconds, 0 when not known. Nothing of the manifest is looked at before the signature holds.
    """
    head = artifact.Head(data)
    if head.header.size != offer.size:
        raise ArtifactError(wire.REASON_CUT, "%d bytes, not %d" % (head.header.size, offer.size))
    key = policy.keys.model_key(head.key_id, now_s)
    if not signature.verify(head.digest, head.signature, key):
        raise ArtifactError(wire.REASON_BAD_SIGNATURE)
    manifest = head.manifest()
    target = artifact.Target(
        policy.arch,
        policy.abi,
        policy.formats,
        policy.schema_hash,
        wire.PROTOCOL_VERSION,
        _lowest(places, offer, policy, now_s),
    )
    reason = artifact.refusal(manifest, target, now_s, shadow)
    if reason != wire.REASON_OK:
        raise ArtifactError(reason)
    for name in ("name", "version", "sequence", "arch"):
        if getattr(manifest, name) != getattr(offer, name):
            raise ArtifactError(wire.REASON_MISMATCH, name)
    if manifest.format != wire.FORMAT_NAMES[offer.format]:
        raise ArtifactError(wire.REASON_MISMATCH, "format")
    return head, manifest


def check_flash(
    fs: "Files", places: slots.Slots, slot: int, offer: "Offer", policy: "Policy", now_s: int
) -> artifact.Manifest:
    """The Manifest of the artifact that lies in `slot`, every byte of it checked; raises ArtifactError, OSError."""
    whole = sha256()
    golden = sha256()
    payload = sha256()
    with fs.open(places.head_path(slot), "rb") as f:
        start = f.read(_head_bytes(f))
        whole.update(start)
        slots.feed(f, whole, golden)
        head_size = f.tell()
    with fs.open(places.payload_path(slot, offer.format), "rb") as f:
        slots.feed(f, whole, payload)
        payload_size = f.tell()
    # The whole first: were only a bit wrong on flash, a later check would blame the publisher.
    if head_size + payload_size != offer.size:
        raise ArtifactError(wire.REASON_CUT, "%d of %d bytes" % (head_size + payload_size, offer.size))
    if whole.digest() != offer.sha256:
        raise ArtifactError(wire.REASON_BAD_DIGEST, "artifact")
    head, manifest = check_head(start, offer, policy, places, now_s, slot == slots.SHADOW)
    if head.header.payload_at != head_size:
        raise ArtifactError(wire.REASON_CUT, "payload of %d bytes" % payload_size)
    if golden.digest() != manifest.golden_sha256:
        raise ArtifactError(wire.REASON_BAD_DIGEST, "golden vectors")
    if payload.digest() != manifest.payload_sha256:
        raise ArtifactError(wire.REASON_BAD_DIGEST, "payload")
    return manifest


def read_manifest(fs: "Files", places: slots.Slots, slot: int) -> artifact.Manifest:
    """The Manifest in a slot whose digest the caller has just checked; raises ArtifactError, OSError."""
    with fs.open(places.head_path(slot), "rb") as f:
        return artifact.Head(f.read(_head_bytes(f))).manifest()


def payload_at(fs: "Files", places: slots.Slots, slot: int) -> int:
    """Where the payload begins in the artifact in a slot; raises ArtifactError, OSError."""
    with fs.open(places.head_path(slot), "rb") as f:
        return artifact.parse_header(f.read(artifact.HEADER_BYTES)).payload_at


def golden_vectors(
    fs: "Files", places: slots.Slots, slot: int, manifest: artifact.Manifest
) -> "Iterator[tuple[array, float]]":
    """Yields (features, score) for each golden vector in a slot; `features`, array('i'), is the same every time."""
    features = array("i", [0] * manifest.n_features)
    row = bytearray(artifact.golden_row_bytes(manifest.n_features))
    with fs.open(places.head_path(slot), "rb") as f:
        f.seek(_head_bytes(f))
        for _ in range(manifest.golden_count):
            f.readinto(row)
            yield features, artifact.golden_into(row, features)


def room(fs: "Files", root: str, folder: str) -> int:
    """Bytes an artifact may take: what is free, and what its slot's folder holds, less the reserve."""
    status = fs.statvfs(root)
    try:
        held = sum([slots.file_size(fs, folder + "/" + entry[0]) for entry in fs.ilistdir(folder)])
    except OSError:  # no such folder yet
        held = 0
    return status[1] * status[4] + held - _RESERVE_BYTES


def _head_bytes(f: "BinaryIO") -> int:
    """Bytes before the golden vectors of an open head file, which is left at its start; at most MAX_HEAD_BYTES."""
    start = f.read(artifact.HEADER_BYTES)
    f.seek(0)
    try:
        return artifact.parse_header(start).golden_at
    except ArtifactError:  # it was parsed before it was written
        raise ArtifactError(wire.REASON_BAD_DIGEST, "header on flash")


def _lowest(places: slots.Slots, offer: "Offer", policy: "Policy", now_s: int) -> int:
    """The lowest sequence the offered artifact may have, the publisher's leave to go below the counter heeded; raises
    ArtifactError for a leave that is not one."""
    lowest = places.lowest(offer.sha256)
    if offer.sequence >= lowest or not offer.leave:
        return lowest
    from contract import statement

    said = statement.Statement(offer.leave)
    if said.kind != statement.DOWNGRADE:
        raise ArtifactError(wire.REASON_WRONG_CLASS, "no leave to go back")
    if said.sha256 != offer.sha256:
        raise ArtifactError(wire.REASON_MISMATCH, "leave for another artifact")
    if not signature.verify(said.digest, said.signature, policy.keys.statement_key(said.signer)):
        raise ArtifactError(wire.REASON_BAD_SIGNATURE, "leave to go back")
    if places.sequence > said.counter:
        raise ArtifactError(wire.REASON_OLD_SEQUENCE, "leave up to %d, reached %d" % (said.counter, places.sequence))
    if said.expires and now_s and now_s >= said.expires:
        raise ArtifactError(wire.REASON_EXPIRED, "leave to go back")
    return offer.sequence
