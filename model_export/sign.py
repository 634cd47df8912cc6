"""ES256 over a digest, in the raw r || s form boards read."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

# Order of P-256 (FIPS 186-5).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def sign(private: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """r || s, 64 bytes, over a SHA-256 digest.

    Deterministic (RFC 6979) and with the lower of the two equivalent values of s, so that packing the same content
    twice gives the same file, and no one without the key can turn it into another that verifies.
    """
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
    r, s = utils.decode_dss_signature(private.sign(digest, algorithm))
    return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """True when `signature`, r || s in 64 bytes, is `public_key`'s (x || y) over the SHA-256 digest.

    The reference the board's own verifier is compared with: s may be in either half of its range.
    """
    if len(signature) != 64 or len(public_key) != 64:
        return False
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_key)
    except ValueError:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True
