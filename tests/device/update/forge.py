"""Makes artifacts for the update tests: sound ones through the real packer, and forged ones no packer would write."""

import json
import struct
import subprocess
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from contract import artifact, msgpack, statement, wire
from model_export import runtime, sign
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey

ARCH = "x64"
ABI = 1539
SCHEMA = "v1;test"
SCHEMA_HASH = sha256(SCHEMA.encode()).digest()[:8]
N_FEATURES = 3
VECTORS = ([1, 2, 3], [-7, 0, 40], [100000, -1, 5])

# A model whose score tells which one it is: the sum of its features plus `offset`.
SOURCE = """
def n_features():
    return {n_features}
{before}
def score(f):
    {body}
    return f[0] + f[1] + f[2] + {offset}.0
"""


@cache
def payload(offset: int, body: str = "pass", before: str = "", n_features: int = N_FEATURES, pad: int = 0) -> bytes:
    """A .mpy of a model written in Python; `pad` bytes of ballast make it larger."""
    ballast = f"\n_ballast = b'{'x' * pad}'" if pad else ""
    source = SOURCE.format(offset=offset, body=body, before=before + ballast, n_features=n_features)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.py"
        path.write_text(source)
        subprocess.run([runtime.mpy_cross(), "-s", "model.py", str(path)], check=True, timeout=30)
        return path.with_suffix(".mpy").read_bytes()


def golden(offset: int) -> bytes:
    """The golden vectors of payload(offset)."""
    return golden_bytes([(vector, float(sum(vector) + offset)) for vector in VECTORS])


def manifest(name: str = "pump", version: str = "1.0.0", sequence: int = 1, **changes: object) -> dict[str, Any]:
    """The fields a publisher states, with `changes`; the packer adds the rest."""
    fields: dict[str, Any] = {
        "abi": ABI,
        "arch": ARCH,
        "card_sha256": bytes(32),
        "class": artifact.CLASS_MODEL,
        "created": 1_700_000_000,
        "detector": "sum",
        "expires": 0,
        "format": artifact.FORMAT_NATIVE,
        "margin": 1.0,
        "min_contract": wire.PROTOCOL_VERSION,
        "n_features": N_FEATURES,
        "name": name,
        "schema": SCHEMA,
        "sequence": sequence,
        "threshold": 1000.0,
        "tolerance": 0.0,
        "version": version,
    }
    return fields | changes


def sound(key: PublisherKey, offset: int, pad: int = 0, **changes: object) -> bytes:
    """A sound artifact of payload(offset)."""
    return pack(manifest(**changes), golden(offset), payload(offset, pad=pad), key)  # pyright: ignore[reportArgumentType]


def raw(key: PublisherKey, fields: dict[str, Any], vectors: bytes, code: bytes, **lies: Any) -> bytes:
    """An artifact without the packer's checks: `lies` replace header fields, signature, key_id, manifest."""
    stated: dict[str, Any] = {
        "golden_count": len(vectors) // artifact.golden_row_bytes(fields["n_features"]),
        "golden_sha256": sha256(vectors).digest(),
        "payload_sha256": sha256(code).digest(),
        "payload_size": len(code),
        "schema_hash": sha256(fields["schema"].encode()).digest()[:8],
    }
    encoded = lies.get("manifest") or encode(stated | fields)
    header = lies.get("header") or struct.pack(
        "<4sHHIII",
        lies.get("magic", artifact.MAGIC),
        lies.get("container", artifact.VERSION),
        lies.get("flags", 0),
        len(encoded),
        lies.get("golden_len", len(vectors)),
        lies.get("payload_len", len(code)),
    )
    signature = lies.get("signature") or sign.sign(key.private, artifact.signed_digest(header, encoded))
    return header + lies.get("key_id", key.key_id) + signature + encoded + vectors + code


def encode(fields: dict[str, Any]) -> bytes:
    """A manifest as msgpack, in the given order and unchecked."""
    packer = msgpack.Packer(bytearray(8192))
    packer.put_map(len(fields))
    for key in sorted(fields):
        packer.put_str(key)
        if isinstance(fields[key], float):
            packer.put_f32(fields[key])
        else:
            packer.put(fields[key])
    return bytes(packer.view())


def offer(data: bytes, **lies: Any) -> dict[str, Any]:
    """WANT's model for an artifact, as the JSON the programs read; `lies` replace fields."""
    fields = {
        "name": "pump",
        "version": "2.0.0",
        "sequence": 6,
        "sha256": sha256(data).hexdigest(),
        "size": len(data),
        "format": wire.FORMAT_NATIVE,
        "arch": ARCH,
    }
    try:
        stated = artifact.Head(data).manifest()
        fields |= {"name": stated.name, "version": stated.version, "sequence": stated.sequence}
    except artifact.ArtifactError:
        pass
    return fields | lies


def spare_key(name: str) -> PublisherKey:
    """A key that is on no disk."""
    return PublisherKey(name, ec.generate_private_key(ec.SECP256R1()))


def said(key: PublisherKey, body: bytes, **lies: bytes) -> bytes:
    """A statement without the signer's checks: `lies` replace magic, key_id and signature."""
    signature = lies.get("signature") or sign.sign(key.private, statement.signed_digest(body))
    return lies.get("magic", statement.MAGIC) + lies.get("key_id", key.key_id) + signature + body


# Models that are packed and signed as they should be, and are not what their publisher believes.
FAULTY: dict[str, dict[str, Any]] = {
    "broken": {"offset": 41},  # golden vectors of another model
    "flipped": {"offset": 41, "tolerance": 5.0, "threshold": 46.5},  # within tolerance, yet another decision
    "not_a_number": {"body": "return float('nan')"},
    "nothing": {"body": "return None"},
    "raises": {"body": "raise ValueError"},
    "hungry": {"body": "bytearray(1000)"},
    "slow": {"before": "import time", "body": "time.sleep_ms(60)"},
    "import_raises": {"before": "raise ValueError"},
    "import_exits": {"before": "raise SystemExit"},
    "no_functions": {"before": "del n_features"},
    "no_module": {"code": b"\x7fELF" + bytes(200)},
    "other_features": {"n_features": 4},
}


def faulty(key: PublisherKey, fault: dict[str, Any]) -> bytes:
    """An artifact with one of the FAULTY payloads, or with golden vectors that are not its own."""
    fault = dict(fault)
    vectors = golden(fault.pop("offset", 40))
    changes = {name: fault.pop(name) for name in ("tolerance", "threshold") if name in fault}
    code = fault.pop("code", None) or payload(40, **fault)
    return pack(manifest(version="4.0.0", sequence=8, **changes), vectors, code, key)


@dataclass
class World:
    """A folder the programs read: artifacts by name, and world.json with keys and offers."""

    folder: Path
    keys: dict[str, str] = field(default_factory=dict[str, str])
    offers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def trust(self, key: PublisherKey) -> None:
        """Makes the boards trust a key."""
        self.keys[key.key_id.hex()] = key.public.hex()

    def publish(self, name: str, data: bytes, **lies: Any) -> None:
        """Puts an artifact where the programs' server finds it."""
        (self.folder / f"{name}.bin").write_bytes(data)
        self.offers[name] = offer(data, **lies)

    def publish_patch(self, name: str, base: bytes | None, data: bytes, patch: bytes, **lies: Any) -> None:
        """An artifact that is offered with a patch, of no base when it is the artifact deflated."""
        (self.folder / f"{name}.patch").write_bytes(patch)
        stated = {
            "patch": sha256(patch).hexdigest()[:16],
            "patch_size": len(patch),
            "patch_base": sha256(base).hexdigest()[:16] if base is not None else None,
        }
        self.publish(name, data, **(stated | lies))

    def write(self, **more: object) -> None:
        """Writes world.json."""
        world = {"arch": ARCH, "abi": ABI, "schema_hash": SCHEMA_HASH.hex(), "keys": self.keys, "offers": self.offers}
        (self.folder / "world.json").write_text(json.dumps(world | more))
