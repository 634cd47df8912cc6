"""Artifacts for tests of the registry: made by the real packer, with machine code nobody runs and sound tables."""

import json
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from contract import artifact, wire
from contract.features import Features
from contract.table import LINEAR
from model_export import table
from model_export.artifact import golden_bytes, pack
from model_export.detectors.trees import Ensemble, IntegerTree
from model_export.keys import PublisherKey

SCHEMA = "v1;w=8;c=flow:l/s:100;f=mean,max"
SCHEMA_HASH = Features(SCHEMA).schema_hash.hex()
OTHER_SCHEMA = "v1;w=8;c=temp:degC:10;f=mean"
ABI = 1539


def new_key(name: str = "publisher") -> PublisherKey:
    """A fresh publisher key that is on no disk."""
    return PublisherKey(name, ec.generate_private_key(ec.SECP256R1()))


def card(**facts: Any) -> bytes:
    """A model card, JSON."""
    return json.dumps({"dataset": {"sha256": "d" * 64}, "code": {"revision": "abc123"}, "seed": 7, **facts}).encode()


def make(key: PublisherKey, name: str = "flow", version: str = "1.0.0", sequence: int = 1, **changes: Any) -> bytes:
    """A signed artifact; `changes` replace manifest fields, `payload` the payload, `card` the card."""
    payload: bytes = changes.pop("payload", f"{name} {version} {changes.get('arch')}".encode())
    model_card: bytes = changes.pop("card", card())
    schema = changes.get("schema", SCHEMA)
    n_features = Features(schema).n_features
    golden: list[tuple[list[int], float]] = changes.pop("golden", [([1] * n_features, 2.0)])
    fields: dict[str, Any] = {
        "abi": ABI,
        "arch": "x64",
        "card_sha256": sha256(model_card).digest(),
        "class": artifact.CLASS_MODEL,
        "created": 1_700_000_000,
        "detector": "EllipticEnvelope",
        "expires": 0,
        "format": artifact.FORMAT_NATIVE,
        "margin": 0.5,
        "min_contract": wire.PROTOCOL_VERSION,
        "n_features": n_features,
        "name": name,
        "schema": schema,
        "sequence": sequence,
        "threshold": 9.5,
        "tolerance": 0.001,
        "version": version,
    }
    return pack(fields | changes, golden_bytes(golden), payload, key)


def stump(cut: int) -> IntegerTree:
    """A tree that asks whether the first feature is below `cut`."""
    left, right, feature, cuts, value = ([1, -1, -1], [2, -1, -1], [0, -1, -1], [cut, 0, 0], [-1, 0, 1])
    return IntegerTree(*(np.array(column, dtype=np.int64) for column in (left, right, feature, cuts, value)))


def table_of(threshold: float, trees: int = 1) -> bytes:
    """A table blob of as many stumps, 18 bytes each, for the features of SCHEMA."""
    made = Ensemble([stump(cut) for cut in range(trees)], np.array([0.0, 1.0]), 2, float(trees), LINEAR, 1 / 4)
    return table.forest(made, threshold)


def gaussian_of(threshold: float) -> bytes:
    """A table blob whose score is the squared length of the two features of SCHEMA, over 2**20."""
    none = np.zeros(2)
    return table.gaussian(np.eye(2), mean=none, fractions=none, shifts=[0, 0], exponent=20, threshold=threshold)


def blob(key: PublisherKey, **changes: Any) -> bytes:
    """The artifact any board that takes blobs can run; `payload` as of make, by default a sound table."""
    changes.setdefault("payload", table_of(changes.get("threshold", 9.5)))
    return make(key, arch=artifact.ANY_ARCH, abi=0, format=artifact.FORMAT_BLOB, **changes)


def digest(data: bytes) -> str:
    """The identity of an artifact."""
    return sha256(data).hexdigest()
