"""Statements on keys no honest publisher would make, each with the reason a board must give.

The board trusts `key` and `other`, two publishers who have nothing to do with each other.
"""

from dataclasses import dataclass

from contract import statement, wire
from contract.keyring import MAX_KEYS, MAX_REVOKED
from model_export import sign, statements
from model_export.keys import PublisherKey
from tests.device.update import forge


@dataclass(frozen=True)
class KeyAttack:
    """`data` after the sound statements `before`; `now_s` is the time the board has."""

    name: str
    reason: int
    data: bytes
    before: tuple[bytes, ...] = ()
    now_s: int = 0


def all_attacks(key: PublisherKey, other: PublisherKey, stranger: PublisherKey) -> list[KeyAttack]:
    """Every attack."""
    return [*_forged(key, stranger), *_replayed(key), *_greedy(key, other), *_shapeless(key), *_endless(key)]


def _keys(number: int, new: PublisherKey | None, *revoked: bytes, until: int = 1) -> bytes:
    return statement.keys_body(number, until if new else 0, new.public if new else b"", list(revoked))


def _forged(key: PublisherKey, stranger: PublisherKey) -> list[KeyAttack]:
    body = _keys(1, stranger)
    good = statements.hand_over(key, stranger, 1, 1)
    twin = sign.ORDER - int.from_bytes(good[44:76], "big")
    not_magic = sign.sign(key.private, statement.sha256(body).digest())
    return [
        KeyAttack("by a stranger", wire.REASON_UNKNOWN_KEY, forge.said(stranger, body)),
        KeyAttack(
            "by a stranger under a known id", wire.REASON_BAD_SIGNATURE, forge.said(stranger, body, key_id=key.key_id)
        ),
        KeyAttack("zeros", wire.REASON_BAD_SIGNATURE, forge.said(key, body, signature=bytes(64))),
        KeyAttack(
            "the twin with s in the upper half",
            wire.REASON_BAD_SIGNATURE,
            good[:44] + twin.to_bytes(32, "big") + good[76:],
        ),
        KeyAttack("the end moved", wire.REASON_BAD_SIGNATURE, good[:81] + b"\xff" + good[82:]),
        KeyAttack("the new key exchanged", wire.REASON_BAD_SIGNATURE, good[:86] + key.public + good[150:]),
        KeyAttack("signed without its magic", wire.REASON_BAD_SIGNATURE, forge.said(key, body, signature=not_magic)),
    ]


def _replayed(key: PublisherKey) -> list[KeyAttack]:
    second, third = forge.spare_key("second"), forge.spare_key("third")
    over = statements.hand_over(key, second, 5, 2_000_000_000)
    revoked = statements.revoke(second, 6, [key.key_id])
    retired, old = wire.REASON_RETIRED_KEY, wire.REASON_OLD_STATEMENT
    return [
        KeyAttack("a handover again", retired, over, (over,)),
        KeyAttack("a second handover by a key that has handed over", retired, _over(key, third, 9), (over,)),
        KeyAttack("a revocation by a key that has handed over", retired, _revoked(key, second, 9), (over,)),
        KeyAttack("a revocation again", old, revoked, (over, revoked)),
        KeyAttack("a number that does not rise", old, statements.hand_over(second, third, 5, 1), (over,)),
        KeyAttack("a number from before", old, statements.revoke(second, 4, [key.key_id]), (over,)),
        KeyAttack("a handover by a revoked key", wire.REASON_REVOKED_KEY, over, (over, revoked)),
        KeyAttack("back to a revoked key", wire.REASON_REVOKED_KEY, _over(second, key, 7), (over, revoked)),
    ]


def _greedy(key: PublisherKey, other: PublisherKey) -> list[KeyAttack]:
    second = forge.spare_key("second")
    bad = wire.REASON_BAD_FORMAT
    return [
        KeyAttack("another publisher's key revoked", wire.REASON_OTHERS_KEY, _revoked(key, other, 1)),
        KeyAttack(
            "another publisher's key revoked in passing",
            wire.REASON_OTHERS_KEY,
            statements.hand_over(key, second, 1, 1, [other.key_id]),
        ),
        KeyAttack("over to another publisher's key", bad, _over(key, other, 1)),
        KeyAttack("over to itself", bad, _over(key, key, 1)),
        KeyAttack("the last key of a publisher revoked", bad, _revoked(key, key, 1)),
        KeyAttack("the new key revoked at once", bad, statements.hand_over(key, second, 1, 1, [second.key_id])),
        KeyAttack("an end without a successor", bad, forge.said(key, statement.keys_body(1, 9, b"", []))),
    ]


def _shapeless(key: PublisherKey) -> list[KeyAttack]:
    good = statements.hand_over(key, forge.spare_key("second"), 1, 1)
    body = good[76:]
    bad = wire.REASON_BAD_FORMAT
    return [
        KeyAttack("nothing but a head", bad, good[:76]),
        KeyAttack("cut", bad, good[:-1]),
        KeyAttack("a byte too long", bad, forge.said(key, body + b"\0")),
        KeyAttack("two new keys", bad, forge.said(key, body[:9] + b"\2" + body[10:])),
        KeyAttack("nine revoked keys", bad, forge.said(key, body[:-1] + b"\x09" + bytes(72))),
        KeyAttack("a kind nobody knows", bad, forge.said(key, b"\x07" + body[1:])),
        KeyAttack("an artifact", bad, forge.sound(key, 20)[:250]),
        KeyAttack("leave to go back", wire.REASON_WRONG_CLASS, statements.leave(key, bytes(32), 5)),
    ]


def _endless(key: PublisherKey) -> list[KeyAttack]:
    """More keys and more revocations than a board keeps."""
    line = [key, *(forge.spare_key(f"key-{i}") for i in range(MAX_KEYS))]
    handed = [_over(line[i], line[i + 1], 10 + i, until=2_000_000_000) for i in range(len(line) - 1)]
    steps = -(-MAX_REVOKED // statement.MAX_REVOKED)
    ids = [i.to_bytes(8, "big") for i in range(MAX_REVOKED + 1)]
    told = [statements.revoke(key, 10 + i, ids[8 * i : 8 * i + 8]) for i in range(steps)]
    full = wire.REASON_NO_SPACE
    return [
        KeyAttack("more keys than a board keeps", full, handed[MAX_KEYS - 2], tuple(handed[: MAX_KEYS - 2])),
        KeyAttack("more revocations than a board keeps", full, statements.revoke(key, 99, ids[-1:]), tuple(told)),
    ]


def _over(old: PublisherKey, new: PublisherKey, number: int, until: int = 1) -> bytes:
    return forge.said(old, _keys(number, new, until=until))


def _revoked(by: PublisherKey, key: PublisherKey, number: int) -> bytes:
    return forge.said(by, _keys(number, None, key.key_id))
