"""Publisher keys: ES256 private keys that stay with whoever publishes models.

One file per key, `<name>.pem`, PKCS #8 and readable by its owner only. Neither the cloud nor a board ever sees it: they
hold the public half, 64 bytes x || y, named by the first 8 bytes of its SHA-256.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contract import artifact

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


class PublisherKeyError(Exception):
    """A key that is missing, unusable or in the way; code: `not-found`, `exists`, `bad-name`, `bad-file`,
    `open`, `retired`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """A key pair and the name of its file."""

    name: str
    private: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> bytes:
        """The public key, x || y, 64 bytes: what a board trusts."""
        return public_bytes(self.private.public_key())

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name the key in artifacts and in HELLO."""
        return artifact.key_id(self.public)


def default_directory() -> Path:
    """Where keys live unless --keys says otherwise: `$XDG_DATA_HOME/edgewise/keys`."""
    data_home = os.environ.get("XDG_DATA_HOME")
    return (Path(data_home) if data_home else Path.home() / ".local" / "share") / "edgewise" / "keys"


def create(directory: Path, name: str) -> PublisherKey:
    """Makes a key and writes it with mode 0600; raises PublisherKeyError, and never replaces a file."""
    if not _NAME.fullmatch(name):
        raise PublisherKeyError("bad-name", f"key name {name!r}: use 1 to 48 of a-z, 0-9 and -")
    key = PublisherKey(name, ec.generate_private_key(ec.SECP256R1()))
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(directory, name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise PublisherKeyError("exists", f"{path} exists: choose another name, or move the file away") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return key


def load(directory: Path, name: str) -> PublisherKey:
    """The key called `name`; raises PublisherKeyError, also when others than the owner may read its file."""
    if not _NAME.fullmatch(name):
        raise PublisherKeyError("bad-name", f"key name {name!r}: use 1 to 48 of a-z, 0-9 and -")
    path = _path(directory, name)
    try:
        pem = path.read_bytes()
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        raise PublisherKeyError("not-found", f"no key {path}: make one with `edgewise keys new {name}`") from None
    if mode & 0o077:
        raise PublisherKeyError("open", f"{path} has mode {mode:o}, others can read it: run `chmod 600 {path}`")
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise PublisherKeyError("bad-file", f"{path} is no unencrypted PEM private key: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise PublisherKeyError("bad-file", f"{path} is not a P-256 key: make one with `edgewise keys new`")
    return PublisherKey(name, private)


def load_all(directory: Path) -> list[PublisherKey]:
    """Every key of the directory, by name; raises PublisherKeyError for a file that is not one."""
    return [load(directory, path.stem) for path in sorted(directory.glob("*.pem"))]


def public_bytes(public: ec.EllipticCurvePublicKey) -> bytes:
    """x || y of a P-256 point, 64 bytes."""
    numbers = public.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}.pem"
