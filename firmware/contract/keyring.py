"""Whose signature counts: the keys of one or more publishers, and how their statements change them.

Runs on MicroPython and CPython, on a board for itself and on the server for all; touches no file, knows no clock.

Each publisher is a line of keys: the first was put in by whoever set up the board or the server, each later one was
named by the one before (handover.py). Only the newest signs statements; the models of an older one count until the time
set when it handed over. So a thief of an old key cannot hand over again, and no publisher can touch another's keys.

What brings a revoked key back would be an old statement, or the configuration it once stood in: ids once revoked are
kept and refused wherever they come from, and a line takes no statement whose number does not rise.
"""

from contract import artifact, wire
from contract.artifact import ArtifactError

_PUBLIC_KEY_BYTES = 64
MAX_KEYS = 8
MAX_REVOKED = 32


class Key:
    """One key. line: id of the first key of its line; number: of the statement that named it or that it made last;
    newest: it signs statements; until: unix seconds after which its models do not count, 0 = for good."""

    def __init__(self, public: bytes, line: bytes, number: int = 0, newest: bool = True, until: int = 0) -> None:
        self.public = public
        self.line = line
        self.number = number
        self.newest = newest
        self.until = until


class Keyring:
    """keys: {key id: Key}; revoked: key ids, oldest first. Change through add(), revoke() and handover.apply() only.

    max_keys: a board keeps as many as HELLO names.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_revoked: int = MAX_REVOKED) -> None:
        self.max_keys = max_keys
        self.max_revoked = max_revoked
        self.keys: "dict[bytes, Key]" = {}
        self.revoked: "list[bytes]" = []

    def add(self, key_id: bytes, public: bytes) -> None:
        """Trusts the first key of a line, unless it is known, was revoked, or is not what its id says."""
        if key_id in self.keys or key_id in self.revoked or artifact.key_id(public) != key_id:
            return
        if len(public) == _PUBLIC_KEY_BYTES and len(self.keys) < self.max_keys:
            self.keys[key_id] = Key(public, key_id)

    def revoke(self, key_id: bytes) -> None:
        """Never again; raises ArtifactError(NO_SPACE) when there is no room to remember it."""
        self.keys.pop(key_id, None)
        if key_id not in self.revoked:
            if len(self.revoked) >= self.max_revoked:
                raise ArtifactError(wire.REASON_NO_SPACE, "%d revoked keys" % self.max_revoked)
            self.revoked.append(key_id)

    def key_ids(self, now_s: int) -> "list[bytes]":
        """The ids whose models count now, in order."""
        return sorted([key_id for key_id, key in self.keys.items() if not is_over(key, now_s)])

    def model_key(self, key_id: bytes, now_s: int) -> bytes:
        """x || y of the key a model is signed with; raises ArtifactError. now_s: unix seconds, 0 when not known."""
        key = self._known(key_id)
        if is_over(key, now_s):
            raise ArtifactError(wire.REASON_RETIRED_KEY, key_id.hex())
        return key.public

    def statement_key(self, key_id: bytes) -> bytes:
        """x || y of the key a statement is signed with; raises ArtifactError."""
        key = self._known(key_id)
        if not key.newest:
            raise ArtifactError(wire.REASON_RETIRED_KEY, key_id.hex() + " has handed over")
        return key.public

    def _known(self, key_id: bytes) -> Key:
        if key_id in self.revoked:
            raise ArtifactError(wire.REASON_REVOKED_KEY, key_id.hex())
        key = self.keys.get(key_id)
        if key is None:
            raise ArtifactError(wire.REASON_UNKNOWN_KEY, key_id.hex())
        return key


def is_over(key: Key, now_s: int) -> bool:
    return key.until == 1 or bool(key.until and now_s and now_s >= key.until)
