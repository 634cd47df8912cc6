"""What runs: two slots for models, and the one record that says which of them does.

Theory of operation. Everything the safety of an update rests on is one A/B record, `models/pointer`: the active slot,
the one to fall back to, the trial under way, the anti-rollback counter, and the digests never to be taken again. Every
change is a single store, which a power cut leaves undone or done; no order of writes can go wrong between two files.

- The pointer names only slots whose artifact passed every check as it lies on flash: arm() is the only way in.
- A slot is forgotten by the pointer before its first byte changes: vacate().
- What the wake cycle needs of a model is kept in the pointer, so that no wake has to read a manifest.

A slot is a folder with two files, `head` (header, signature, manifest, golden vectors) and the payload under a name
that can be imported. One after the other they are the artifact, byte for byte: a download is written once, in place,
and its digest can be taken again at any time.
"""

import struct
from hashlib import sha256

from micropython import const

from contract.wire import FORMAT_BLOB, FORMAT_NAMES, FORMAT_NATIVE, REASON_OK
from device.files import make_directory
from device.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from contract.artifact import Manifest
    from device.files import Files

_LAYOUT = const(1)
# layout, active, previous, trial, crashes, clean, contacted, silent, reason, sequence, floor
_POINTER = "<BbbBBBBBBII"
_MODEL = "<32sIIffHB8s32s32s"
_POINTER_BYTES = struct.calcsize(_POINTER)
MODEL_BYTES = struct.calcsize(_MODEL)
_SHA8_BYTES = const(8)
_MAX_KNOWN_BAD = const(16)
_BUFFER_BYTES = const(512)

NONE = const(-1)  # no slot: the built-in SAFE model
SHADOW = const(2)  # the shadow model's, see shadow.py; the pointer never names it
_LETTERS = "abs"
_SUFFIXES = {FORMAT_NATIVE: ".mpy", FORMAT_BLOB: ".bin"}


class Installed:
    """What a wake needs to know of a model: its manifest's fields of the same names, and the artifact's sha256."""

    def __init__(
        self,
        digest: bytes,
        sequence: int,
        rollback_floor: int,
        threshold: float,
        margin: float,
        n_features: int,
        form: int,
        schema_hash: bytes,
        name: str,
        version: str,
    ) -> None:
        self.sha256 = digest
        self.sequence = sequence
        self.rollback_floor = rollback_floor
        self.threshold = threshold
        self.margin = margin
        self.n_features = n_features
        self.format = form  # FORMAT_*
        self.schema_hash = schema_hash
        self.name = name
        self.version = version

    @property
    def sha8(self) -> bytes:
        """The 8 bytes that name the artifact on the wire."""
        return self.sha256[:_SHA8_BYTES]


def installed(manifest: "Manifest", digest: bytes) -> Installed:
    """What to remember of the artifact with this manifest (contract.artifact.Manifest) and SHA-256."""
    form = FORMAT_NATIVE if manifest.format == FORMAT_NAMES[FORMAT_NATIVE] else FORMAT_BLOB
    return Installed(
        digest,
        manifest.sequence,
        manifest.rollback_floor,
        manifest.threshold,
        manifest.margin,
        manifest.n_features,
        form,
        manifest.schema_hash,
        manifest.name,
        manifest.version,
    )


class Slots:
    """The slots under `root`/models on `fs` (see files.Files) and their pointer, loaded at once.

    Read freely, change through the methods only. active, previous: slot index or NONE; models: Installed or None per
    slot; trial: the active model is on trial; crashes, clean: its boots after a bad end and its clean wakes;
    contacted: it reached the cloud; silent: sessions in which it did not; sequence: the anti-rollback counter, lowest
    that may be downloaded; floor: lowest that may be gone back to; known_bad: sha8 of artifacts taken back, newest
    last; reason: why the last one was.

    A method that changes something raises OSError when flash refuses, and nothing has changed then.
    """

    def __init__(self, fs: "Files", root: str) -> None:
        self._fs = fs
        self._folder = root + "/models"
        self._record = Record(fs, self._folder + "/pointer")
        self.load()

    def load(self) -> None:
        """Reads the pointer; without one nothing is installed."""
        payload = self._record.load()
        if payload is None or len(payload) < _POINTER_BYTES + 2 * MODEL_BYTES or payload[0] != _LAYOUT:
            payload = struct.pack(_POINTER, _LAYOUT, NONE, NONE, 0, 0, 0, 0, 0, REASON_OK, 0, 0) + bytes(
                2 * MODEL_BYTES
            )
        (
            _,
            self.active,
            self.previous,
            self.trial,
            self.crashes,
            self.clean,
            self.contacted,
            self.silent,
            self.reason,
            self.sequence,
            self.floor,
        ) = struct.unpack_from(_POINTER, payload)
        self.models = [unpack_model(payload, _POINTER_BYTES + i * MODEL_BYTES) for i in (0, 1)]
        bad = payload[_POINTER_BYTES + 2 * MODEL_BYTES :]
        self.known_bad = [bad[i : i + _SHA8_BYTES] for i in range(0, len(bad), _SHA8_BYTES)]

    @property
    def model(self) -> Installed | None:
        """The active model, or None for SAFE."""
        return None if self.active == NONE else self.models[self.active]

    def spare(self) -> int:
        """The slot that may be written: the one that is not active."""
        return 1 - self.active if self.active != NONE else 0

    def lowest(self, digest: bytes) -> int:
        """The lowest sequence the artifact of this SHA-256 may have: less is asked of one the board already holds."""
        return self.floor if self.holds(digest) else self.sequence

    def holds(self, digest: bytes) -> bool:
        """True when the spare slot has the artifact of this SHA-256, verified when it was installed."""
        model = self.models[self.spare()]
        return model is not None and model.sha256 == digest

    def folder(self, slot: int) -> str:
        """Where the files of a slot are."""
        return self._folder + "/" + _LETTERS[slot]

    def head_path(self, slot: int) -> str:
        """Header, signature, manifest and golden vectors."""
        return self.folder(slot) + "/head"

    def module_name(self, slot: int) -> str:
        """The payload's name without suffix: different in each slot, as imported modules are known by name."""
        return "slot_" + _LETTERS[slot]

    def payload_path(self, slot: int, form: int) -> str:
        """The payload, of format FORMAT_*."""
        return self.folder(slot) + "/" + self.module_name(slot) + _SUFFIXES[form]

    def digest(self, slot: int, form: int) -> bytes:
        """SHA-256 of the artifact as it lies in a slot; raises OSError when a file is missing."""
        hasher = sha256()
        for path in (self.head_path(slot), self.payload_path(slot, form)):
            with self._fs.open(path, "rb") as f:
                feed(f, hasher)
        return hasher.digest()

    def read_in_place(self, slot: int, form: int) -> "memoryview | bytearray":
        """The payload's bytes: the file's own memory where its file system is mapped (vfs.VfsRom), else one buffer
        that it is read into; raises OSError."""
        path = self.payload_path(slot, form)
        with self._fs.open(path, "rb") as f:
            try:
                return memoryview(f)
            except TypeError:  # littlefs and FAT give no addresses
                data = bytearray(file_size(self._fs, path))
                if f.readinto(data) != len(data):
                    raise OSError(5)
                return data

    def vacate(self, slot: int) -> None:
        """Empties a slot that is not active, the pointer first where it may name the slot."""
        make_directory(self._fs, self._folder)
        make_directory(self._fs, self.folder(slot))
        if slot != SHADOW and (self.models[slot] is not None or self.previous == slot):
            self.models[slot] = None
            if self.previous == slot:
                self.previous = NONE
            self._store()
        for entry in list(self._fs.ilistdir(self.folder(slot))):
            self._fs.remove(self.folder(slot) + "/" + entry[0])

    def arm(self, slot: int, model: Installed) -> None:
        """Makes a slot active, on trial; the one active before becomes the one to fall back to."""
        self.previous = self.active
        self.active = slot
        self.models[slot] = model
        self.trial = 1
        self.crashes = self.clean = self.contacted = self.silent = 0
        self._store()

    def count_crash(self) -> None:
        """One more boot of the trial that follows a bad end."""
        self.crashes += 1
        self._store()

    def count_clean(self) -> None:
        """One more wake of the trial that ended well."""
        self.clean += 1
        self._store()

    def count_contact(self, reached: bool) -> None:
        """A session of the trial ended; `reached`: the cloud acknowledged something."""
        if reached:
            self.contacted = 1
        else:
            self.silent += 1
        self._store()

    def commit(self) -> None:
        """Ends the trial well; the anti-rollback counter rises to the model's sequence."""
        self.trial = 0
        self.sequence = max(self.sequence, self.model.sequence)
        self.floor = max(self.floor, self.model.rollback_floor)
        self._store()

    def fall_back(self, reason: int, never_again: bool) -> None:
        """Makes the previous slot active, or none; `never_again` puts the model left behind on the known-bad list."""
        if never_again:
            self._condemn(self.model.sha8)
        self.active = self.previous
        self.previous = NONE
        self.trial = 0
        self.reason = reason
        self._store()

    def condemn(self, sha8: bytes) -> None:
        """Never take this artifact again."""
        self._condemn(sha8)
        self._store()

    def _condemn(self, sha8: bytes) -> None:
        self.known_bad = [bad for bad in self.known_bad if bad != sha8][1 - _MAX_KNOWN_BAD :] + [sha8]

    def _store(self) -> None:
        payload = struct.pack(
            _POINTER,
            _LAYOUT,
            self.active,
            self.previous,
            self.trial,
            self.crashes,
            self.clean,
            self.contacted,
            self.silent,
            self.reason,
            self.sequence,
            self.floor,
        )
        payload += pack_model(self.models[0]) + pack_model(self.models[1]) + b"".join(self.known_bad)
        try:
            self._record.store(payload)
        except OSError:
            self.load()
            raise


def feed(f: "BinaryIO", *hashers: object) -> None:
    """Reads an open file to its end into `hashers`."""
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    while True:
        count = f.readinto(buffer)
        if not count:
            return
        for hasher in hashers:
            hasher.update(view[:count])


def file_size(fs: "Files", path: str) -> int:
    """Bytes of a file, 0 when it is not there."""
    try:
        return fs.stat(path)[6]
    except OSError:
        return 0


def pack_model(model: Installed | None) -> bytes:
    """A model as records keep it, None as zeros; MODEL_BYTES long."""
    if model is None:
        return bytes(MODEL_BYTES)
    return struct.pack(
        _MODEL,
        model.sha256,
        model.sequence,
        model.rollback_floor,
        model.threshold,
        model.margin,
        model.n_features,
        model.format,
        model.schema_hash,
        model.name.encode(),
        model.version.encode(),
    )


def unpack_model(payload: bytes, start: int) -> Installed | None:
    """What pack_model() made, read from `start` on."""
    fields = list(struct.unpack_from(_MODEL, payload, start))
    if fields[0] == bytes(32):
        return None
    fields[8] = fields[8].rstrip(b"\0").decode()
    fields[9] = fields[9].rstrip(b"\0").decode()
    return Installed(*fields)
