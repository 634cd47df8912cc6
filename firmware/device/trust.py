"""Whom this board believes, and what it can run: its side of the question whether an artifact may be installed."""

_KEY_ID_BYTES = 8


class Policy:
    """What a board accepts.

    arch, abi (major * 256 + minor), formats (FORMAT_* bits) and schema_hash are the board's own; trusted: {key id: x
    || y}, both as hex, as in config.json; revoked: key ids as hex, no longer accepted whatever `trusted` says.
    """

    def __init__(
        self, arch: str, abi: int, formats: int, schema_hash: bytes, trusted: dict, revoked: tuple = ()
    ) -> None:
        self.arch = arch
        self.abi = abi
        self.formats = formats
        self.schema_hash = schema_hash
        self.trusted = trusted
        self.revoked = revoked

    def key_ids(self) -> list:
        """The key ids HELLO names: trusted and not revoked."""
        return sorted(bytes.fromhex(name) for name in self.trusted if name not in self.revoked)
