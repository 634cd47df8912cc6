"""Packing: what a publisher states becomes the one artifact that boards accept."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from contract import artifact, wire
from contract.artifact import ArtifactError
from model_export import sign
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.update import forge

KEY = PublisherKey("main", ec.generate_private_key(ec.SECP256R1()))
GOLDEN = golden_bytes([([1, 2, 3], 0.5), ([-4, 5, -6], -0.25)])


def test_the_packer_fills_in_what_follows_and_signs_the_rest():
    data = pack(forge.manifest(), GOLDEN, b"code", KEY)
    head, manifest, golden, payload = artifact.split(data)
    assert (golden, payload) == (GOLDEN, b"code")
    assert (manifest.golden_count, manifest.payload_size) == (2, 4)
    assert manifest.schema_hash == forge.SCHEMA_HASH
    assert head.key_id == KEY.key_id
    assert sign.verify(KEY.public, head.digest, head.signature)


def test_the_same_content_gives_the_same_file():
    assert pack(forge.manifest(), GOLDEN, b"code", KEY) == pack(forge.manifest(), GOLDEN, b"code", KEY)


def test_signatures_are_in_low_s_form():
    for number in range(40):
        signature = sign.sign(KEY.private, bytes([number]) * 32)
        assert int.from_bytes(signature[32:], "big") <= sign.ORDER // 2
        assert sign.verify(KEY.public, bytes([number]) * 32, signature)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 99}, "name"),
        ({"version": "1.0"}, "version"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": 1}, "threshold"),
        ({"margin": -1.0}, "margin"),
        ({"n_features": 0}, "n_features"),
        ({"schema": None}, "schema"),
        ({"schema": "x" * 600}, "schema"),
        ({"sequence": -1}, "sequence"),
        ({"extra": [1]}, "manifest"),
        ({"rollback_floor": 2}, "rollback_floor"),
    ],
)
def test_a_manifest_no_board_would_take_is_refused(changes: dict[str, Any], field: str):
    with pytest.raises(ArtifactError) as refused:
        pack(forge.manifest(**changes), GOLDEN, b"code", KEY)
    assert refused.value.code == wire.REASON_BAD_FORMAT
    assert field in refused.value.detail


@pytest.mark.parametrize(
    ("golden", "payload"),
    [(b"", b"code"), (GOLDEN[:-1], b"code"), (GOLDEN * 300, b"code"), (GOLDEN, b""), (GOLDEN, bytes(262145))],
    ids=["no golden vectors", "half a vector", "too many vectors", "no payload", "payload too large"],
)
def test_parts_out_of_bounds_are_refused(golden: bytes, payload: bytes):
    with pytest.raises(ArtifactError) as refused:
        pack(forge.manifest(), golden, payload, KEY)
    assert refused.value.code == wire.REASON_BAD_FORMAT


def test_the_reference_verifier_refuses_what_is_no_point_and_other_lengths():
    signature = sign.sign(KEY.private, bytes(32))
    assert not sign.verify(bytes(64), bytes(32), signature)
    assert not sign.verify(KEY.public[:63], bytes(32), signature)
    assert not sign.verify(KEY.public, bytes(32), signature[:63])
