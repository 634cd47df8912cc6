"""Signatures, good and bad, to hold the board's verifier against the `cryptography` package.

A case is 160 bytes: digest (32), r || s (64), public key x || y (64). The exceptional ones are made with a slow and
plain implementation of the group law, because no library hands out points it thinks nobody should have.
"""

import random
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import ec

from model_export import sign
from model_export.keys import public_bytes

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = sign.ORDER
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


def case(digest: int, r: int, s: int, key: Point) -> bytes:
    """One case; values are taken modulo 2^256, the point at infinity is (0, 0)."""
    x, y = key or (0, 0)
    return b"".join((value % (1 << 256)).to_bytes(32, "big") for value in (digest, r, s, x, y))


def ordinary(count: int, seed: int) -> Iterator[bytes]:
    """`count` cases, half of them valid signatures, half with something changed."""
    source = random.Random(seed)
    private = ec.derive_private_key(source.randrange(1, N), ec.SECP256R1())
    for number in range(count):
        if number % 20 == 0:
            private = ec.derive_private_key(source.randrange(1, N), ec.SECP256R1())
        digest = source.randbytes(32)
        data = digest + sign.sign(private, digest) + public_bytes(private.public_key())
        if number % 4 == 0:  # the twin that is as valid
            s = int.from_bytes(data[64:96], "big")
            data = data[:64] + (N - s).to_bytes(32, "big") + data[96:]
        yield data if number % 2 == 0 else _changed(data, source)


def _changed(data: bytes, source: random.Random) -> bytes:
    kind = source.randrange(6)
    if kind == 0:  # one bit, anywhere
        at = source.randrange(160 * 8)
        return _with(data, at // 8, bytes((data[at // 8] ^ 1 << at % 8,)))
    if kind == 1:  # one of the five numbers replaced by one from the edges
        edges = (0, 1, 2, N - 1, N, N + 1, P - 1, P, P + 1, (1 << 256) - 1, 1 << 255)
        return _with(data, 32 * source.randrange(1, 5), source.choice(edges).to_bytes(32, "big"))
    if kind == 2:  # r and s swapped
        return data[:32] + data[64:96] + data[32:64] + data[96:]
    if kind == 3:  # the opposite key
        y = P - int.from_bytes(data[128:], "big")
        return data[:128] + y.to_bytes(32, "big")
    if kind == 4:  # another digest
        return source.randbytes(32) + data[32:]
    part = 32 * source.randrange(5)  # a number moved by one
    value = (int.from_bytes(data[part : part + 32], "big") + source.choice((-1, 1))) % (1 << 256)
    return _with(data, part, value.to_bytes(32, "big"))


def _with(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def exceptional() -> Iterator[bytes]:
    """Cases in which the additions meet equal points, opposite points or infinity, and numbers out of range."""
    yield from _small_scalars()
    yield from _infinity()
    yield from _x_above_the_order()
    yield from _out_of_range()


def _small_scalars() -> Iterator[bytes]:
    """u1 G + d u2 G with all factors small or just below n: every pair of table entries meets sooner or later."""
    for d in (1, 2, 3, 5, 7, 15, N - 1, N - 2, N - 15, (N + 1) // 2):
        key = multiply(d, G)
        for u1 in (0, 1, 2, 3, 7, 15, 16, 17, N - 1, N - 15, 1 << 128):
            for u2 in (1, 2, 3, 7, 8, 15, N - 1, N - 7):
                point = multiply((u1 + u2 * d) % N, G)
                if point is not None:
                    r = point[0] % N
                    s = r * pow(u2, -1, N) % N
                    yield case(u1 * s % N, r, s, key)


def _infinity() -> Iterator[bytes]:
    """u1 G + u2 Q is no point at all: nothing to compare r with."""
    source = random.Random(7)
    for d in (1, 2, N - 1, source.randrange(N), source.randrange(N)):
        for r in (1, 2, N - 1, source.randrange(1, N)):
            yield case(-r * d % N, r, source.randrange(1, N), multiply(d, G))


def _x_above_the_order() -> Iterator[bytes]:
    """The point's x lies between n and p, so r = x - n: both candidates of the last comparison count."""
    source = random.Random(11)
    found = 0
    x = N
    while found < 8:
        x += 1
        y = _y_of(x)
        if y is not None:
            found += 1
            u1, u2 = source.randrange(1, N), source.randrange(1, N)
            rest = add((x, y), multiply(N - u1, G))
            key = multiply(pow(u2, -1, N), rest)
            r = x - N
            s = r * pow(u2, -1, N) % N
            yield case(u1 * s % N, r, s, key)
            yield case(u1 * s % N, x, s, key)  # r itself must be below n
            yield case(u1 * s % N, r + 1, s, key)


def _out_of_range() -> Iterator[bytes]:
    edges = (0, 1, N - 1, N, N + 1, P, P + 1, (1 << 256) - 1)
    key = multiply(12345, G)
    assert key is not None
    for r in edges:
        for s in edges:
            yield case(5, r, s, key)
    digest = 99
    point = multiply(777, G)
    assert point is not None
    r = point[0] % N
    s = (digest + r * 12345) * pow(777, -1, N) % N
    yield case(digest, r, s, key)
    small = next(x for x in range(1, 100) if _y_of(x) is not None)
    y = _y_of(small)
    assert y is not None
    for bad in (
        (0, 0),
        (0, 1),
        (key[0], key[1] + 1),
        (key[1], key[0]),
        (P, 0),
        (small + P, y),
        (small, y + P),
        (small, y),
    ):
        yield case(digest, r, s, bad)


def _y_of(x: int) -> int | None:
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return y if y * y % P == square else None


def add(a: Point, b: Point) -> Point:
    """The group law, as SEC 1 2.2.1 states it."""
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(factor: int, point: Point) -> Point:
    """factor times a point, 0 <= factor < n, by doubling and adding; where n - factor is less, the opposite of that."""
    if factor > N // 2:
        opposite = multiply(N - factor, point)
        return None if opposite is None else (opposite[0], P - opposite[1])
    result: Point = None
    while factor:
        if factor & 1:
            result = add(result, point)
        point = add(point, point)
        factor >>= 1
    return result
