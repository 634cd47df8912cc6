"""Artifacts and answers no honest publisher or cloud would send, each with the reason a board must give.

The board runs v1 (sequence 5) when the attack comes. In the order of the threats TUF and SUIT name.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from contract import artifact, statement, wire
from model_export import sign, statements
from model_export.keys import PublisherKey
from tests.device.update import forge


@dataclass(frozen=True)
class Attack:
    """`data` is what the cloud serves; `offer` overrides WANT's fields, `offered` is the artifact they describe.

    `rules` changes the board's policy (revoked key ids, trusted keys as hex), `condemned` puts the offer on the
    known-bad list, `now_s` is the time the board has, `spoil` names what happens to each piece (programs/attacks.py),
    `statements` are what publishers said of their keys before.
    """

    name: str
    reason: int
    data: bytes
    offer: dict[str, Any] = field(default_factory=dict[str, Any])
    offered: bytes | None = None
    rules: dict[str, Any] = field(default_factory=dict[str, Any])
    condemned: bool = False
    now_s: int = 0
    spoil: str = ""
    statements: tuple[bytes, ...] = ()


def all_attacks(publisher: PublisherKey, stranger: PublisherKey) -> list[Attack]:
    """Every attack on boards that trust `publisher` and do not know `stranger`."""
    return [
        *_rollback_and_freeze(publisher),
        *_mix_and_match(publisher),
        *_wrong_target(publisher),
        *_endless_data(publisher),
        *_keys(publisher, stranger),
        *_signature(publisher),
        *_container(publisher),
        *_manifest(publisher),
        *_payload(publisher),
        *_keys_that_changed(publisher),
        *_leave_to_go_back(publisher, stranger),
    ]


def _sound(key: PublisherKey, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"version": "2.0.0", "sequence": 6}
    return forge.sound(key, 20, **(fields | changes))


def _raw(key: PublisherKey, lies: dict[str, Any] | None = None, **changes: Any) -> bytes:
    fields = forge.manifest(version="2.0.0", sequence=6) | changes
    return forge.raw(key, fields, forge.golden(20), forge.payload(20), **(lies or {}))


def _rollback_and_freeze(key: PublisherKey) -> list[Attack]:
    older = _sound(key, version="0.9.0", sequence=4)
    mortal = _sound(key, expires=1_800_000_000)
    taken_back = _sound(key, version="2.1.0")
    return [
        Attack("rollback to an older sequence", wire.REASON_OLD_SEQUENCE, older),
        Attack("rollback under a newer offer", wire.REASON_OLD_SEQUENCE, older, {"sequence": 9}),
        Attack("replay of a model taken back", wire.REASON_KNOWN_BAD, taken_back, condemned=True),
        Attack(
            "replay of a model taken back, renamed",
            wire.REASON_KNOWN_BAD,
            taken_back,
            {"name": "fresh", "version": "9.0.0", "sequence": 99},
            condemned=True,
        ),
        Attack("freeze: an expired model", wire.REASON_EXPIRED, mortal, now_s=1_900_000_000),
        Attack("freeze: expired this second", wire.REASON_EXPIRED, mortal, now_s=1_800_000_000),
    ]


def _mix_and_match(key: PublisherKey) -> list[Attack]:
    one, other = _sound(key), _sound(key, version="2.0.1")
    twin = forge.sound(key, 21, version="2.0.0", sequence=6)
    head = artifact.Head(one).header
    return [
        Attack("payload of another model", wire.REASON_BAD_DIGEST, one[: head.payload_at] + forge.payload(21)),
        Attack(
            "golden vectors of another model",
            wire.REASON_BAD_DIGEST,
            one[: head.golden_at] + forge.golden(21) + one[head.payload_at :],
        ),
        Attack(
            "another model of the same name in the place of the one offered",
            wire.REASON_BAD_DIGEST,
            twin,
            {"sha256": sha256(one).hexdigest()},
        ),
        Attack("signature of another manifest", wire.REASON_BAD_SIGNATURE, one[:20] + other[20:92] + one[92:]),
        Attack("another version than offered", wire.REASON_MISMATCH, one, {"version": "2.0.9"}),
        Attack("another name than offered", wire.REASON_MISMATCH, one, {"name": "fan"}),
        Attack("another sequence than offered", wire.REASON_MISMATCH, one, {"sequence": 7}),
        Attack(
            "boundary between golden vectors and payload moved",
            wire.REASON_BAD_SIGNATURE,
            artifact.Header(head.manifest_len, head.golden_len + 16, head.payload_len - 16).pack() + one[20:],
        ),
    ]


def _wrong_target(key: PublisherKey) -> list[Attack]:
    esp32 = _sound(key, arch="xtensawin")
    blob = _sound(key, format="blob", arch="any", abi=0)
    return [
        Attack("not a model", wire.REASON_WRONG_CLASS, _sound(key, **{"class": "firmware"})),
        Attack("for another arch", wire.REASON_WRONG_ARCH, esp32, {"arch": "xtensawin"}),
        Attack("for another arch, offered as ours", wire.REASON_WRONG_ARCH, esp32, {"arch": forge.ARCH}),
        Attack("for another abi", wire.REASON_WRONG_ABI, _sound(key, abi=forge.ABI + 1)),
        Attack("a format the board lacks", wire.REASON_WRONG_FORMAT, blob, {"format": wire.FORMAT_BLOB, "arch": "any"}),
        Attack("a format the board lacks, offered as another", wire.REASON_WRONG_FORMAT, blob),
        Attack("a format nobody knows", wire.REASON_WRONG_FORMAT, _sound(key), {"format": 5}),
        Attack("for other features", wire.REASON_SCHEMA_MISMATCH, _sound(key, schema="v1;other")),
        Attack("for a newer contract", wire.REASON_CONTRACT, _sound(key, min_contract=wire.PROTOCOL_VERSION + 1)),
    ]


def _endless_data(key: PublisherKey) -> list[Attack]:
    one = _sound(key)
    return [
        Attack("larger than offered", wire.REASON_CUT, _sound(key, name="x" * 9), {"size": len(one)}, offered=one),
        Attack("the total grows on the way", wire.REASON_CUT, one, spoil="growing total"),
        Attack("pieces beyond the end", wire.REASON_CUT, one, spoil="longer piece"),
        Attack("cut within the head", wire.REASON_CUT, one, spoil="stub"),
        Attack("cut after a piece", wire.REASON_NOT_SERVED, _sound(key, pad=9000), spoil="nothing after a piece"),
        Attack("a header that claims more than is offered", wire.REASON_CUT, _raw(key, {"payload_len": 200_000})),
        Attack("a header that claims 4 GB", wire.REASON_BAD_FORMAT, _raw(key, {"payload_len": 0xFFFFFFFF})),
        Attack("a header without golden vectors", wire.REASON_BAD_FORMAT, _raw(key, {"golden_len": 0})),
    ]


def _keys(key: PublisherKey, stranger: PublisherKey) -> list[Attack]:
    one = _sound(key)
    off_curve = key.public[:63] + bytes((key.public[63] ^ 1,))
    nowhere = artifact.key_id(off_curve)
    ours = {key.key_id.hex(): key.public.hex()}
    return [
        Attack("an unknown key", wire.REASON_UNKNOWN_KEY, _sound(stranger)),
        Attack("an unknown key under a known id", wire.REASON_BAD_SIGNATURE, _raw(stranger, {"key_id": key.key_id})),
        Attack("a revoked key", wire.REASON_REVOKED_KEY, one, rules={"revoked": [key.key_id.hex()]}),
        Attack(
            "another key's public half under this id",
            wire.REASON_UNKNOWN_KEY,
            _raw(stranger, {"key_id": key.key_id}),
            rules={"trusted": {key.key_id.hex(): stranger.public.hex()}},
        ),
        Attack(
            "a duplicate id with a stranger's key",
            wire.REASON_BAD_SIGNATURE,
            _raw(stranger, {"key_id": key.key_id}),
            rules={"trusted": ours | {key.key_id.hex().upper(): stranger.public.hex()}},
        ),
        Attack(
            "a trusted key off the curve",
            wire.REASON_BAD_SIGNATURE,
            _raw(key, {"key_id": nowhere}),
            rules={"trusted": {nowhere.hex(): off_curve.hex()}},
        ),
        Attack("no key trusted at all", wire.REASON_UNKNOWN_KEY, one, rules={"trusted": {}}),
    ]


def _signature(key: PublisherKey) -> list[Attack]:
    one = _sound(key)
    s = int.from_bytes(one[60:92], "big")
    manifest_only = sign.sign(key.private, sha256(artifact.Head(one).manifest().name.encode()).digest())
    return [
        Attack(
            "the twin with s in the upper half",
            wire.REASON_BAD_SIGNATURE,
            one[:60] + (sign.ORDER - s).to_bytes(32, "big") + one[92:],
        ),
        Attack("zeros", wire.REASON_BAD_SIGNATURE, one[:28] + bytes(64) + one[92:]),
        Attack("over something else", wire.REASON_BAD_SIGNATURE, one[:28] + manifest_only + one[92:]),
        Attack("one bit of the manifest", wire.REASON_BAD_SIGNATURE, _flip(one, 120)),
        Attack("one bit of the payload", wire.REASON_BAD_DIGEST, _flip(one, len(one) - 1), {}, one),
        Attack(
            "one bit of the golden vectors", wire.REASON_BAD_DIGEST, _flip(one, artifact.Head(one).header.golden_at)
        ),
        Attack(
            "fast forward: the sequence raised afterwards",
            wire.REASON_BAD_SIGNATURE,
            one.replace(b"sequence\x06", b"sequence\x7f"),
            {"sequence": 127},
        ),
    ]


def _container(key: PublisherKey) -> list[Attack]:
    return [
        Attack("another magic", wire.REASON_BAD_FORMAT, _raw(key, {"magic": b"EWA2"})),
        Attack("a newer container", wire.REASON_BAD_FORMAT, _raw(key, {"container": 2})),
        Attack("flags nobody defined", wire.REASON_BAD_FORMAT, _raw(key, {"flags": 1})),
        Attack("random bytes", wire.REASON_BAD_FORMAT, sha256(b"noise").digest() * 40),
        Attack("a manifest over its limit", wire.REASON_BAD_FORMAT, _raw(key, {"manifest": bytes(2049)})),
    ]


def _manifest(key: PublisherKey) -> list[Attack]:
    one = artifact.Head(_sound(key))
    encoded = _sound(key)[92 : one.header.golden_at]
    twice = bytes((encoded[0], encoded[1], encoded[2] + 1)) + encoded[3:] + b"\xa7version\xa52.0.0"
    swapped = forge.encode({"b": 1, "a": 2}).replace(b"\xa1a\x02\xa1b\x01", b"\xa1b\x01\xa1a\x02")
    bad = wire.REASON_BAD_FORMAT
    return [
        Attack("a key twice", bad, _raw(key, {"manifest": twice})),
        Attack("keys out of order", bad, _raw(key, {"manifest": swapped})),
        Attack("bytes after the map", bad, _raw(key, {"manifest": encoded + b"\xc0"})),
        Attack("not a map", bad, _raw(key, {"manifest": b"\x93\x01\x02\x03"})),
        Attack("nested values", bad, _raw(key, name=["pump"])),
        Attack("a threshold that is no number", bad, _raw(key, threshold=float("nan"))),
        Attack("a payload size unlike the header's", bad, _raw(key, payload_size=99)),
        Attack("a golden count unlike the header's", bad, _raw(key, golden_count=99)),
        Attack("a schema unlike its hash", bad, _raw(key, schema_hash=bytes(8))),
        Attack("a field missing", bad, _raw(key, {"manifest": forge.encode({"name": "pump"})})),
        Attack("a number where text belongs", bad, _raw(key, version=2)),
        Attack("a way back above the model itself", bad, _raw(key, rollback_floor=7)),
    ]


def _payload(key: PublisherKey) -> list[Attack]:
    """Signed, and still not taken: what a careless publisher, or one who was robbed of the key, may send."""
    reasons = {
        "broken": wire.REASON_SELFTEST_FAILED,
        "flipped": wire.REASON_SELFTEST_FAILED,
        "not_a_number": wire.REASON_SELFTEST_FAILED,
        "nothing": wire.REASON_SELFTEST_FAILED,
        "raises": wire.REASON_SELFTEST_FAILED,
        "hungry": wire.REASON_SELFTEST_FAILED,
        "slow": wire.REASON_SELFTEST_FAILED,
        "import_raises": wire.REASON_LOAD_FAILED,
        "no_functions": wire.REASON_LOAD_FAILED,
        "no_module": wire.REASON_LOAD_FAILED,
        "other_features": wire.REASON_SCHEMA_MISMATCH,
    }
    return [
        Attack(f"payload: {name.replace('_', ' ')}", reason, forge.faulty(key, forge.FAULTY[name]))
        for name, reason in reasons.items()
    ]


def _keys_that_changed(key: PublisherKey) -> list[Attack]:
    successor = forge.spare_key("successor")
    one = _sound(key)
    over = statements.hand_over(key, successor, 1, 1_800_000_000)
    at_once = statements.hand_over(key, successor, 1, 0)
    stolen = statements.hand_over(key, successor, 1, 0, [key.key_id])
    taken_back = statements.revoke(successor, 2, [key.key_id])
    retired, revoked = wire.REASON_RETIRED_KEY, wire.REASON_REVOKED_KEY
    return [
        Attack("an old key, its time over", retired, one, now_s=1_800_000_000, statements=(over,)),
        Attack("an old key that ended with the handover, on a board without time", retired, one, statements=(at_once,)),
        Attack("a stolen key, replaced", revoked, one, statements=(stolen,)),
        Attack("a key taken back by its successor", revoked, one, statements=(over, taken_back)),
        Attack("a key taken back, its handover replayed", revoked, one, statements=(over, taken_back, over)),
        Attack(
            "a key taken back, replayed with another end",
            revoked,
            one,
            statements=(over, taken_back, statements.hand_over(key, forge.spare_key("other"), 9, 2_000_000_000)),
        ),
        Attack(
            "a key handed over to, under the old one's id",
            wire.REASON_BAD_SIGNATURE,
            _raw(successor, {"key_id": key.key_id}),
            statements=(over,),
        ),
        Attack("a successor nobody told of", wire.REASON_UNKNOWN_KEY, _sound(successor)),
    ]


def _leave_to_go_back(key: PublisherKey, stranger: PublisherKey) -> list[Attack]:
    """The board has committed sequence 5 and is offered 4 with leave that is none."""
    older = _sound(key, version="0.9.0", sequence=4)
    digest = sha256(older).digest()
    good = statements.leave(key, digest, 5)
    successor = forge.spare_key("successor")
    over = statements.hand_over(key, successor, 1, 2_000_000_000)
    bad = wire.REASON_BAD_FORMAT

    def leave(name: str, reason: int, said: bytes, **more: Any) -> Attack:
        return Attack(f"leave to go back: {name}", reason, older, {"leave": said.hex()}, **more)

    return [
        leave("none", wire.REASON_OLD_SEQUENCE, b""),
        leave("for another artifact", wire.REASON_MISMATCH, statements.leave(key, bytes(32), 5)),
        leave("from before the counter rose", wire.REASON_OLD_SEQUENCE, statements.leave(key, digest, 4)),
        leave("expired", wire.REASON_EXPIRED, statements.leave(key, digest, 5, 1_800_000_000), now_s=1_800_000_000),
        leave("by a stranger", wire.REASON_UNKNOWN_KEY, statements.leave(stranger, digest, 5)),
        leave(
            "by a stranger under a known id",
            wire.REASON_BAD_SIGNATURE,
            forge.said(stranger, statement.downgrade_body(digest, 5, 0), key_id=key.key_id),
        ),
        leave("its counter raised afterwards", wire.REASON_BAD_SIGNATURE, _flip(good, len(good) - 5)),
        leave("by a key that has handed over", wire.REASON_RETIRED_KEY, good, statements=(over,)),
        leave("by a revoked key", wire.REASON_REVOKED_KEY, good, rules={"revoked": [key.key_id.hex()]}),
        leave("a statement on keys", wire.REASON_WRONG_CLASS, over),
        leave("noise", bad, sha256(b"noise").digest() * 4),
        leave("a byte too long", bad, good + b"\0"),
        leave("the signature of the artifact itself", bad, older[:200]),
        leave("of a model taken back", wire.REASON_KNOWN_BAD, good, condemned=True),
    ]


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
