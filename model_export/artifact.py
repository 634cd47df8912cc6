"""Packs a signed model artifact; the format and its checks are contract/artifact.py's."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from contract import artifact, msgpack, wire
from model_export import sign
from model_export.keys import PublisherKey


def pack(manifest: Mapping[str, object], golden: bytes, payload: bytes, key: PublisherKey) -> bytes:
    """A complete artifact, signed by `key`, that contract.artifact.split accepts.

    `manifest` holds the fields of artifact.FIELDS but those that follow from the other arguments (sizes, digests,
    golden_count, schema_hash), which are filled in. Raises ArtifactError(BAD_FORMAT) naming the field at fault.
    """
    schema, n_features = manifest.get("schema"), manifest.get("n_features")
    if not isinstance(schema, str):
        raise artifact.ArtifactError(wire.REASON_BAD_FORMAT, "no schema")
    if not isinstance(n_features, int) or not 1 <= n_features <= wire.MAX_FEATURES:
        raise artifact.ArtifactError(wire.REASON_BAD_FORMAT, "n_features")
    count, rest = divmod(len(golden), artifact.golden_row_bytes(n_features))
    if rest:
        raise artifact.ArtifactError(wire.REASON_BAD_FORMAT, f"golden vectors are not rows of {n_features} features")
    fields = dict(manifest)
    fields["schema_hash"] = sha256(schema.encode()).digest()[:8]
    fields["golden_count"] = count
    fields["golden_sha256"] = sha256(golden).digest()
    fields["payload_size"] = len(payload)
    fields["payload_sha256"] = sha256(payload).digest()
    encoded = encode_manifest(fields)
    header = artifact.Header(len(encoded), len(golden), len(payload)).pack()
    signature = sign.sign(key.private, artifact.signed_digest(header, encoded))
    data = b"".join((header, key.key_id, signature, encoded, golden, payload))
    artifact.split(data)
    return data


def encode_manifest(fields: dict[str, Any]) -> bytes:
    """A manifest as it is signed: msgpack, keys ascending, floats in single precision.

    Raises ArtifactError(BAD_FORMAT) for one no board would take.
    """
    packer = msgpack.Packer(bytearray(artifact.MAX_MANIFEST_BYTES))
    try:
        packer.put_map(len(fields))
        for name in sorted(fields):
            packer.put_str(name)
            if isinstance(fields[name], float):
                packer.put_f32(fields[name])
            else:
                packer.put(fields[name], 0)
    except wire.WireError as error:
        raise artifact.ArtifactError(wire.REASON_BAD_FORMAT, f"manifest {error}") from None
    encoded = bytes(packer.view())
    artifact.parse_manifest(encoded)
    return encoded


def golden_bytes(rows: Iterable[tuple[Sequence[int], float]]) -> bytes:
    """Golden vectors as they are packed: for each (features, score) the features as int32, the score as float32."""
    return b"".join(struct.pack(f"<{len(features)}if", *features, score) for features, score in rows)
