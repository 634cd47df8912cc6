"""The artifact container: what is parsed, what is refused with which reason, and what a board may install."""

import struct
from array import array
from hashlib import sha256

from contract import artifact, wire
from contract.artifact import ArtifactError
from contract.msgpack import Packer
from tests.contract.suite.check import Random, unhex, vectors

_SCHEMA = "v1;test"
_GOLDEN = struct.pack("<2if2if", 1, -2, 0.5, 2147483647, -2147483648, -1.25)
_PAYLOAD = b"payload"


def _refused(reason, function, *arguments):
    try:
        result = function(*arguments)
    except ArtifactError as error:
        assert error.code == reason, "refused as %r, not as %r" % (str(error), wire.REASON_NAMES[reason])
        return
    raise AssertionError("not refused: %r" % (result,))


def _fields(**changes):
    fields = {
        "abi": 1539,
        "arch": "x64",
        "card_sha256": bytes(32),
        "class": "model",
        "created": 1700000000,
        "detector": "EllipticEnvelope",
        "expires": 0,
        "format": "native",
        "golden_count": 2,
        "golden_sha256": sha256(_GOLDEN).digest(),
        "margin": 0.5,
        "min_contract": 1,
        "n_features": 2,
        "name": "pump",
        "payload_sha256": sha256(_PAYLOAD).digest(),
        "payload_size": len(_PAYLOAD),
        "schema": _SCHEMA,
        "schema_hash": sha256(_SCHEMA.encode()).digest()[:8],
        "sequence": 7,
        "threshold": 1.5,
        "tolerance": 0.25,
        "version": "1.2.3",
    }
    fields.update(changes)
    return fields


def _encode(fields):
    packer = Packer(bytearray(4096))
    packer.put_map(len(fields))
    for key in sorted(fields):
        packer.put_str(key)
        if isinstance(fields[key], float):
            packer.put_f32(fields[key])
        else:
            packer.put(fields[key])
    return bytes(packer.view())


def _artifact(manifest=None, golden=_GOLDEN, payload=_PAYLOAD):
    if manifest is None:
        manifest = _encode(_fields())
    header = artifact.Header(len(manifest), len(golden), len(payload)).pack()
    return header + bytes(8) + bytes(64) + manifest + golden + payload


def test_an_artifact_is_taken_apart():
    data = _artifact()
    head, manifest, golden, payload = artifact.split(data)
    assert head.header.size == len(data)
    assert (golden, payload) == (_GOLDEN, _PAYLOAD)
    for key, value in _fields().items():
        assert getattr(manifest, "artifact_class" if key == "class" else key) == value, key
    assert manifest.rollback_floor == 0


def test_the_head_is_enough_to_decide():
    data = _artifact()
    size = artifact.parse_header(data[:20]).golden_at
    manifest = artifact.Head(memoryview(data)[:size]).manifest()
    assert manifest.name == "pump"
    assert artifact.refusal(manifest, _target(), 0) == wire.REASON_OK


def test_an_artifact_of_the_publisher_is_read_alike():
    vector = vectors("artifact")
    data = unhex(vector["artifact"])
    head, manifest, golden, payload = artifact.split(data)
    public = unhex(vector["public_key"])
    assert artifact.key_id(public) == head.key_id
    assert head.digest == unhex(vector["signed_digest"])
    assert head.signature == unhex(vector["signature"])
    assert sha256(data).digest() == unhex(vector["sha256"])
    assert (manifest.name, manifest.version, manifest.sequence) == ("pump", "1.0.0", 5)
    features = array("i", [0] * manifest.n_features)
    rows = []
    for start in range(0, len(golden), artifact.golden_row_bytes(manifest.n_features)):
        score = artifact.golden_into(golden[start:], features)
        rows.append([list(features), score])
    assert rows == vector["golden"]
    assert payload == unhex(vector["payload"])


def test_every_cut_is_noticed():
    data = _artifact()
    for size in range(len(data)):
        _refused(wire.REASON_CUT, artifact.split, data[:size])
    _refused(wire.REASON_CUT, artifact.split, data + b"\0")


def test_every_changed_byte_of_golden_or_payload_is_noticed():
    data = bytearray(_artifact())
    start = artifact.parse_header(data).golden_at
    for i in range(start, len(data)):
        data[i] ^= 1
        _refused(wire.REASON_BAD_DIGEST, artifact.split, bytes(data))
        data[i] ^= 1


def test_a_header_out_of_bounds_is_refused():
    good = (b"EWA1", 1, 0, 100, 8, 9)
    artifact.parse_header(struct.pack("<4sHHIII", *good))
    bad = (
        (0, b"EWA2"),
        (1, 2),
        (2, 1),
        (3, 0),
        (3, artifact.MAX_MANIFEST_BYTES + 1),
        (4, 0),
        (4, artifact.MAX_GOLDEN_BYTES + 1),
        (5, 0),
        (5, artifact.MAX_PAYLOAD_BYTES + 1),
        (5, 0xFFFFFFFF),
    )
    for index, value in bad:
        fields = list(good)
        fields[index] = value
        _refused(wire.REASON_BAD_FORMAT, artifact.parse_header, struct.pack("<4sHHIII", *fields))


def test_the_largest_artifact_is_what_the_wire_allows():
    limits = (artifact.MAX_MANIFEST_BYTES, artifact.MAX_GOLDEN_BYTES, artifact.MAX_PAYLOAD_BYTES)
    assert artifact.Header(*limits).size == wire.MAX_ARTIFACT_BYTES
    assert artifact.MAX_HEAD_BYTES <= wire.MAX_CHUNK_BYTES  # the first piece decides


def test_a_signature_in_the_upper_half_is_refused():
    half = unhex("7fffffff800000007fffffffffffffff de737d56d38bcf4279dce5617e3192a8")
    data = bytearray(_artifact())
    data[60:92] = half
    artifact.Head(data)
    data[91] += 1
    _refused(wire.REASON_BAD_SIGNATURE, artifact.Head, data)


def test_each_missing_or_wrong_field_is_refused():
    wrong = {
        0: ("", "x" * 600, 1, "\u00e4", "a\nb", b"text"),
        1: (-1, 1 << 33, 1.0, True, "1"),
        2: (b"", bytes(64), "x"),
    }
    wrong[3] = (1, "1", float("nan"), float("inf"), -float("inf"))
    for key, kind, _, _ in artifact.FIELDS:
        fields = _fields()
        del fields[key]
        _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(fields))
        for value in wrong[kind]:
            _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(_fields(**{key: value})))


def test_bounds_between_fields_hold():
    for changes in (
        {"margin": -0.5},
        {"tolerance": -0.5},
        {"rollback_floor": 8},
        {"rollback_floor": -1},
        {"schema": "v1;else"},
        {"n_features": 0},
        {"n_features": wire.MAX_FEATURES + 1},
        {"min_contract": 0},
    ):
        _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(_fields(**changes)))
    assert artifact.parse_manifest(_encode(_fields(rollback_floor=7))).rollback_floor == 7


def test_a_manifest_must_fit_the_header():
    for changes in ({"payload_size": 8}, {"golden_count": 3}, {"n_features": 1}):
        _refused(wire.REASON_BAD_FORMAT, artifact.Head(_artifact(_encode(_fields(**changes)))).manifest)


def test_a_manifest_has_one_reading():
    encoded = _encode(_fields())
    twice = b"\xde\x00\x17" + encoded[3:] + b"\xa7version\xa51.2.3"
    for bad in (twice, encoded + b"\xc0", b"\x80", b"\x90", b"\xc0", b"", encoded[:-1], b"\xdf\xff\xff\xff\xff"):
        _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, bad)


def test_unknown_keys_are_passed_over():
    assert artifact.parse_manifest(_encode(_fields(zeta=1, alpha="x"))).name == "pump"
    _refused(wire.REASON_BAD_FORMAT, artifact.parse_manifest, _encode(_fields(zeta=[1, 2])))


def test_no_bytes_break_the_parser():
    random = Random(5)
    encoded = _encode(_fields())
    for _ in range(400):
        data = bytearray(encoded)
        for _ in range(1 + random.below(4)):
            data[random.below(len(data))] = random.below(256)
        try:
            artifact.parse_manifest(bytes(data))
        except ArtifactError:
            pass


def test_versions_are_semantic():
    for good in ("0.0.0", "1.2.3", "10.20.30", "1.0.0-rc.1", "1.0.0-a-b"):
        assert artifact.valid_version(good), good
    for bad in (
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.2.x",
        "1..3",
        "1.2.3-",
        "1.2.3+b",
        "-1.2.3",
        "1.2.3-A",
        " 1.2.3",
    ):
        assert not artifact.valid_version(bad), bad


def _target(**changes):
    own = {
        "arch": "x64",
        "abi": 1539,
        "formats": wire.FORMAT_NATIVE,
        "schema_hash": sha256(_SCHEMA.encode()).digest()[:8],
        "contract": 1,
        "sequence": 7,
    }
    own.update(changes)
    return artifact.Target(**own)


def test_a_board_takes_only_what_it_can_run():
    for manifest, target, now_s, reason in (
        ({}, {}, 0, wire.REASON_OK),
        ({"class": "firmware"}, {}, 0, wire.REASON_WRONG_CLASS),
        ({"min_contract": 2}, {}, 0, wire.REASON_CONTRACT),
        ({"format": "blob"}, {}, 0, wire.REASON_WRONG_FORMAT),
        ({"format": "else"}, {"formats": 3}, 0, wire.REASON_WRONG_FORMAT),
        ({}, {"formats": wire.FORMAT_BLOB}, 0, wire.REASON_WRONG_FORMAT),
        ({"format": "blob", "arch": "any", "abi": 0}, {"formats": 3}, 0, wire.REASON_OK),
        ({"format": "blob"}, {"formats": 3}, 0, wire.REASON_WRONG_ARCH),
        ({"arch": "rv32imc"}, {}, 0, wire.REASON_WRONG_ARCH),
        ({"abi": 1538}, {}, 0, wire.REASON_WRONG_ABI),
        ({}, {"schema_hash": bytes(8)}, 0, wire.REASON_SCHEMA_MISMATCH),
        ({}, {"sequence": 8}, 0, wire.REASON_OLD_SEQUENCE),
        ({}, {"sequence": 6}, 0, wire.REASON_OK),
        ({"expires": 100}, {}, 99, wire.REASON_OK),
        ({"expires": 100}, {}, 100, wire.REASON_EXPIRED),
        ({"expires": 100}, {}, 0, wire.REASON_OK),
    ):
        read = artifact.parse_manifest(_encode(_fields(**manifest)))
        assert artifact.refusal(read, _target(**target), now_s) == reason, (manifest, target, now_s)


def test_an_error_names_its_reason():
    assert str(ArtifactError(wire.REASON_CUT, "7 of 9 bytes")) == "cut: 7 of 9 bytes"
    assert str(ArtifactError(wire.REASON_EXPIRED)) == "expired"
