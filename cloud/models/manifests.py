"""Manifests as JSON columns: bytes become hex, and back."""

from typing import Any

from contract import artifact

_BYTES_FIELDS = ("card_sha256", "golden_sha256", "payload_sha256", "schema_hash", "bins", "shares")
_FIELDS = (
    *(field[0] for field in artifact.FIELDS if field[0] != "class"),
    *(field[0] for field in artifact.OPTIONAL),
)


def to_json(manifest: artifact.Manifest) -> dict[str, Any]:
    """A JSON object with every field of the manifest."""
    fields: dict[str, Any] = {"class": manifest.artifact_class}
    for key in _FIELDS:
        value = getattr(manifest, key)
        if value != b"":  # no profile
            fields[key] = value.hex() if isinstance(value, bytes) else value
    return fields


def from_json(fields: dict[str, Any]) -> artifact.Manifest:
    """The manifest `to_json` was given."""
    raw = {key: bytes.fromhex(value) if key in _BYTES_FIELDS else value for key, value in fields.items()}
    for key in ("margin", "threshold", "tolerance", "disagreement"):
        raw[key] = float(raw.get(key, 0))  # a JSON column may give 2.0 back as 2
    return artifact.Manifest(raw)
