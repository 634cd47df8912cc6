"""Whom this board believes, and what it can run: its side of the question whether an artifact may be installed."""

import struct

from device.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contract.keyring import Keyring
    from device.files import Files

_LAYOUT = 1
_HEAD = "<BBB"  # layout, keys, revoked ids
_KEY = "<64s8sIIB"  # x || y, line, number, until, newest
_HEAD_BYTES = struct.calcsize(_HEAD)
_KEY_BYTES = struct.calcsize(_KEY)
_ID_BYTES = 8


class Keys:
    """The publisher keys of a board: those of config.json, and what signed statements made of them since.

    trusted: {key id: x || y}, both as hex; revoked: key ids as hex. What statements said is one A/B record, `keys`, so
    a power cut leaves it old or new; it is read when first needed, which most wakes never do. Of config.json it keeps
    nothing but the lines of keys that a statement has changed.
    """

    def __init__(self, fs: "Files", root: str, trusted: dict, revoked: tuple = ()) -> None:
        self._record = Record(fs, root + "/keys")
        self._trusted = trusted
        self._revoked = revoked
        self._ring = None

    def key_ids(self, now_s: int) -> list:
        """The key ids HELLO names. now_s: unix time in seconds, 0 when not known."""
        return self._keyring().key_ids(now_s)

    def model_key(self, key_id: bytes, now_s: int) -> bytes:
        """x || y of the key an artifact names; raises ArtifactError with the reason why it does not count."""
        return self._keyring().model_key(key_id, now_s)

    def statement_key(self, key_id: bytes) -> bytes:
        """x || y of the key a statement names; raises ArtifactError."""
        return self._keyring().statement_key(key_id)

    def take(self, data: "bytes | memoryview", now_s: int) -> None:
        """Applies a statement on keys and keeps it; raises ArtifactError, OSError, and nothing has changed then."""
        from contract import handover
        from device import signature

        ring = handover.apply(self._keyring(), data, signature.verify, now_s)
        self._store(ring)
        self._ring = ring

    def _keyring(self) -> "Keyring":
        if self._ring is None:
            from contract.keyring import Keyring

            ring = Keyring()
            self._load(ring)
            for name in self._revoked:
                key_id = _from_hex(name)
                ring.keys.pop(key_id, None)
                if key_id not in ring.revoked:
                    ring.revoked.append(key_id)
            for name in sorted(self._trusted):
                ring.add(_from_hex(name), _from_hex(self._trusted[name]))
            self._ring = ring
        return self._ring

    def _load(self, ring: "Keyring") -> None:
        from contract.keyring import Key

        data = self._record.load()
        if data is None or len(data) < _HEAD_BYTES or data[0] != _LAYOUT:
            return
        _, n_keys, n_revoked = struct.unpack_from(_HEAD, data)
        for _ in range(n_keys):
            at = _HEAD_BYTES + len(ring.keys) * (_ID_BYTES + _KEY_BYTES)
            public, line, number, until, newest = struct.unpack_from(_KEY, data, at + _ID_BYTES)
            ring.keys[data[at : at + _ID_BYTES]] = Key(public, line, number, bool(newest), until)
        at = _HEAD_BYTES + n_keys * (_ID_BYTES + _KEY_BYTES)
        ring.revoked = [data[i : i + _ID_BYTES] for i in range(at, at + n_revoked * _ID_BYTES, _ID_BYTES)]

    def _store(self, ring: "Keyring") -> None:
        changed = [key.line for key in ring.keys.values() if key.number]
        data = b""
        count = 0
        for key_id, key in ring.keys.items():
            if key.line in changed:
                data += key_id + struct.pack(_KEY, key.public, key.line, key.number, key.until, key.newest)
                count += 1
        revoked = [key_id for key_id in ring.revoked if key_id.hex() not in self._revoked]
        self._record.store(struct.pack(_HEAD, _LAYOUT, count, len(revoked)) + data + b"".join(revoked))


class Policy:
    """What a board accepts: arch, abi (major * 256 + minor), formats (FORMAT_* bits) and schema_hash are its own; keys:
    the Keys whose signatures count."""

    def __init__(self, arch: str, abi: int, formats: int, schema_hash: bytes, keys: Keys) -> None:
        self.arch = arch
        self.abi = abi
        self.formats = formats
        self.schema_hash = schema_hash
        self.keys = keys


def _from_hex(text: str) -> bytes:
    """b"" for what is not hex: no key has that id."""
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError):
        return b""
