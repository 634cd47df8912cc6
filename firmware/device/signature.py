"""ES256 verification: ECDSA on P-256 over a SHA-256 digest (FIPS 186-5, SEC 1 4.1.4), in pure MicroPython.

MicroPython has no elliptic curves, but its integers multiply in C. So the work is arranged to need few of them, about
3,100 multiplications and two powers where two separate double-and-add ladders take 8,000:

- The running point is (X, Y, Z) with x = X / Z^2, y = Y / Z^3, so that no step divides. The last comparison, x = r, is
  made as X = r Z^2 and needs no division either.
- u1 G + u2 Q shares its 256 doublings (Shamir's trick). The scalars are written as signed odd digits with zeros between
  them: width-5 wNAF for G, whose 8 odd multiples are constants, width 4 for Q, whose 4 are computed each time. That
  leaves some 95 additions, all of a point with Z = 1. Wider windows save 4 % of the work and take 3 kB of heap.
- Inverses are Fermat's, each one three-argument pow.

Everything verified is public, so nothing here needs constant time. Every exceptional case of the addition formulas
(equal points, opposite points, infinity) is handled, because whoever made the signature chooses the scalars.
"""

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

_G_WIDTH = 5
_Q_WIDTH = 4
_NEGATIVE = 0x80  # marks a negative digit
_DIGITS = 257  # a wNAF has at most one digit more than the scalar has bits

# x and y of G, 3G, 5G, ... 15G
_G_MULTIPLES = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    0x5ECBE4D1A6330A44C8F7EF951D4BF165E6C6B721EFADA985FB41661BC6E7FD6C,
    0x8734640C4998FF7E374B06CE1A64A2ECD82AB036384FB83D9A79B127A27D5032,
    0x51590B7A515140D2D784C85608668FDFEF8C82FD1F5BE52421554A0DC3D033ED,
    0xE0C17DA8904A727D8AE1BF36BF8A79260D012F00D4D80888D1D0BB44FDA16DA4,
    0x8E533B6FA0BF7B4625BB30667C01FB607EF9F8B8A80FEF5B300628703187B2A3,
    0x73EB1DBDE03318366D069F83A6F5900053C73633CB041B21C55E1A86C1F400B4,
    0xEA68D7B6FEDF0B71878938D51D71F8729E0ACB8C2C6DF8B3D79E8A4B90949EE0,
    0x2A2744C972C9FCE787014A964A8EA0C84D714FEAA4DE823FE85A224A4DD048FA,
    0x3ED113B7883B4C590638379DB0C21CDA16742ED0255048BF433391D374BC21D1,
    0x9099209ACCC4C8A224C843AFA4F4C68A090D04DA5E9889DAE2F8EEFCE82A3740,
    0x177C837AE0AC495A61805DF2D85EE2FC792E284B65EAD58A98E15D9D46072C01,
    0x63BB58CD4EBEA558A24091ADB40F4E7226EE14C3A1FB4DF39C43BBE2EFC7BFD8,
    0xF0454DC6971ABAE7ADFB378999888265AE03AF92DE3A0EF163668C63E59B9D5F,
    0xB5B93EE3592E2D1F4E6594E51F9643E62A3B21CE75B5FA3F47E59CDE0D034F36,
)


def verify(digest: bytes, signature: bytes, public_key: bytes) -> bool:
    """True when `signature` is `public_key`'s over `digest`.

    digest: 32 bytes, big-endian; signature: r || s, 64 bytes; public_key: x || y, 64 bytes. False for any other length,
    for r or s outside 1..n-1 and for a key that is no point of the curve. As in SEC 1, s may be in either half of its
    range; contract/artifact.py is stricter.
    """
    if len(digest) != 32 or len(signature) != 64 or len(public_key) != 64:
        return False
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    x = int.from_bytes(public_key[:32], "big")
    y = int.from_bytes(public_key[32:], "big")
    if not (0 < r < _N and 0 < s < _N) or not _on_curve(x, y):
        return False
    w = pow(s, _N - 2, _N)
    u1 = int.from_bytes(digest, "big") * w % _N
    point_x, point_z = _combine(u1, r * w % _N, x, y)
    if point_z == 0:
        return False
    zz = point_z * point_z % _P
    # r is x mod n, and x < p: x is r, or r + n where that is still below p.
    return r * zz % _P == point_x or (r + _N < _P and (r + _N) * zz % _P == point_x)


def _on_curve(x: int, y: int) -> bool:
    return x < _P and y < _P and (y * y - (x * x - 3) * x - _B) % _P == 0


def _combine(u1: int, u2: int, x: int, y: int) -> tuple:
    """X and Z of u1 G + u2 (x, y); Z is 0 at infinity."""
    digits_g = _wnaf(u1, _G_WIDTH)  # before the tables: the largest blocks, while the heap is least fragmented
    digits_q = _wnaf(u2, _Q_WIDTH)
    q_multiples = _odd_multiples(x, y)
    ax = ay = az = 0
    for i in range(_DIGITS - 1, -1, -1):
        if az:
            ax, ay, az = _double(ax, ay, az)
        if digits_g[i]:
            ax, ay, az = _add_multiple(ax, ay, az, _G_MULTIPLES, digits_g[i])
        if digits_q[i]:
            ax, ay, az = _add_multiple(ax, ay, az, q_multiples, digits_q[i])
    return ax, az


def _odd_multiples(x: int, y: int) -> tuple:
    """x and y of Q, 3Q, 5Q and 7Q, brought to Z = 1 by one inversion for all three."""
    p = _P
    x3, y3, z3 = _add(*_double(x, y, 1), x, y)
    x7, y7, z7 = _add(*_double(x3, y3, z3), x, y)
    x5, y5, z5 = _add(*_double(*_double(x, y, 1)), x, y)
    inverse = pow(z3 * z5 % p * z7, p - 2, p)
    table = (x, y)
    for px, py, others in ((x3, y3, z5 * z7), (x5, y5, z3 * z7), (x7, y7, z3 * z5)):
        z = inverse * others % p  # 1 / Z
        zz = z * z % p
        table += (px * zz % p, py * zz % p * z % p)
    return table


def _add_multiple(ax: int, ay: int, az: int, multiples: tuple, digit: int) -> tuple:
    """(AX, AY, AZ) plus what a digit of _wnaf() stands for."""
    odd = digit & ~_NEGATIVE
    y = multiples[odd]
    return _add(ax, ay, az, multiples[odd - 1], _P - y if digit & _NEGATIVE else y)


def _double(x: int, y: int, z: int) -> tuple:
    """2 (X, Y, Z): dbl-2001-b of hyperelliptic.org/EFD, for a = -3. No point of the curve is its own opposite."""
    p = _P
    zz = z * z % p
    yy = y * y % p
    beta = 4 * x * yy % p
    alpha = 3 * (x - zz) * (x + zz) % p
    x = (alpha * alpha - 2 * beta) % p
    return x, (alpha * (beta - x) - 8 * yy * yy) % p, 2 * y * z % p


def _add(ax: int, ay: int, az: int, bx: int, by: int) -> tuple:
    """(AX, AY, AZ) + (bx, by, 1): madd of hyperelliptic.org/EFD, Jacobian coordinates."""
    if az == 0:
        return bx, by, 1
    p = _P
    zz = az * az % p
    h = (bx * zz - ax) % p
    r = (by * zz % p * az - ay) % p
    if h == 0:  # the same x: the same point, or its opposite
        return _double(ax, ay, az) if r == 0 else (0, 0, 0)
    hh = h * h % p
    hhh = h * hh % p
    v = ax * hh % p
    x = (r * r - hhh - 2 * v) % p
    return x, (r * (v - x) - ay * hhh) % p, az * h % p


def _wnaf(scalar: int, width: int) -> bytearray:
    """The signed odd digits of a scalar below 2^256, least significant first: 0, or the size with _NEGATIVE added.

    Works on the bytes of the scalar, since shifting a 256-bit integer 256 times would cost as much as the doublings.
    """
    bits = scalar.to_bytes(_DIGITS // 8 + 3, "little")
    digits = bytearray(_DIGITS)
    mask = (1 << width) - 1
    carry = 0
    i = 0
    while i < _DIGITS:
        at = i >> 3
        window = ((bits[at] | bits[at + 1] << 8) >> (i & 7) & mask) + carry
        if window & 1 == 0:
            i += 1  # a carry into an even window is still to come: 1 + 1 is even as well
            continue
        if window > mask >> 1:
            digits[i] = (mask + 1 - window) | _NEGATIVE
            carry = 1
        else:
            digits[i] = window
            carry = 0
        i += width
    return digits
