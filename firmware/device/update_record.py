"""What an update in progress must not forget, the offer and how far it came, and what the cloud is told of it.

It is one A/B record, `update`. Losing it loses an update's progress and nothing else: what runs is in the pointer
(slots.py).
"""

import struct

from micropython import const

from contract.wire import (
    MAX_ARCH,
    MAX_ARTIFACT_BYTES,
    MAX_MODEL_NAME,
    MAX_STATEMENT_BYTES,
    MAX_U32,
    MAX_VERSION,
    REASON_OK,
    UPDATE_ARM,
    UPDATE_COMMIT,
    UPDATE_DOWNLOAD,
    UPDATE_IDLE,
    UPDATE_OFFER,
    UPDATE_PATCH,
    UPDATE_REFUSED,
    UPDATE_ROLLBACK,
    UPDATE_SELFTEST,
    UPDATE_TRIAL,
    UPDATE_VERIFY,
)
from device.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from device.download import Download
    from device.files import Files
    from device.patching import PatchDownload

_LAYOUT = const(2)
# layout, state, reason, attempts, steps, stalls, started, due, patching, config version
_FIELDS = "<BBBBBBBBBI"
_MODEL = "<32sIIB16s32s32s"  # sha256, sequence, size, format, arch, name, version
_REST = "<I8s8sH"  # patch size, patch, its base, bytes of the leave that follows
_FIELD_BYTES = struct.calcsize(_FIELDS)
OFFERED_BYTES = struct.calcsize(_MODEL)
_REST_AT = _FIELD_BYTES + OFFERED_BYTES
_LEAVE_AT = _REST_AT + struct.calcsize(_REST)
_UNDER_WAY = (UPDATE_OFFER, UPDATE_DOWNLOAD, UPDATE_PATCH, UPDATE_VERIFY, UPDATE_SELFTEST, UPDATE_ARM)
_REPORTED = (UPDATE_DOWNLOAD, UPDATE_TRIAL, UPDATE_COMMIT, UPDATE_ROLLBACK, UPDATE_REFUSED)
_ENDED = (UPDATE_COMMIT, UPDATE_ROLLBACK, UPDATE_REFUSED)


class Offer:
    """The model a WANT names: `sha256` of the artifact and its `size` in bytes, format FORMAT_*; all unverified.

    leave: a publisher's statement, or b""; patch, patch_size, patch_base: sha8 and bytes of what makes the artifact out
    of the one with sha8 patch_base, size 0 for none; eight zeros or None: out of none, it is the artifact deflated.
    """

    def __init__(
        self,
        name: str,
        version: str,
        sequence: int,
        digest: bytes,
        size: int,
        form: int,
        arch: str,
        leave: bytes = b"",
        patch: bytes | None = None,
        patch_size: int = 0,
        patch_base: bytes | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.sequence = sequence
        self.sha256 = bytes(digest)
        self.size = size
        self.format = form
        self.arch = arch
        self.leave = bytes(leave)
        self.patch = bytes(patch or bytes(8))
        self.patch_size = patch_size if patch else 0
        self.patch_base = bytes(patch_base or bytes(8))

    @property
    def sha8(self) -> bytes:
        """The 8 bytes that name the artifact on the wire."""
        return self.sha256[:8]

    @property
    def has_base(self) -> bool:
        """Whether the patch, if there is one, is a difference to another artifact."""
        return self.patch_base != bytes(8)

    def is_sound(self) -> bool:
        """False when a field is outside what an artifact can have."""
        return (
            _is_plain(self.name, MAX_MODEL_NAME)
            and _is_plain(self.version, MAX_VERSION)
            and _is_plain(self.arch, MAX_ARCH)
            and 0 <= self.sequence <= MAX_U32
            and 0 <= self.format <= 255
            and len(self.sha256) == 32
            and 1 <= self.size <= MAX_ARTIFACT_BYTES
            and len(self.leave) <= MAX_STATEMENT_BYTES
            and 0 <= self.patch_size <= MAX_U32
        )


class UpdateRecord:
    """The record's fields; store() after changing them, enter() for another state. send: as for update.Updater.

    state UPDATE_*, reason REASON_*; attempts: boots that began this state; steps: states entered for this offer;
    stalls: sessions in which the cloud sent nothing; started: the slot was emptied for this offer; due: the state is
    still to be reported; patching: the offer is taken as a patch;
    config_version: of the WANT that made the offer; offer: Offer or None.

    Not kept: fresh: this boot entered the present state; download: what fetches the offer, made when first needed.
    """

    def __init__(self, fs: "Files", root: str, send: object) -> None:
        self._record = Record(fs, root + "/update")
        self._send = send
        self._detail = ""
        self.fresh = False
        self.download: "Download | PatchDownload | None" = None
        self.load()

    def load(self) -> None:
        """Reads the record; without one no update is in progress."""
        data = self._record.load()
        if data is None or len(data) < _FIELD_BYTES or data[0] != _LAYOUT:
            data = struct.pack(_FIELDS, _LAYOUT, UPDATE_IDLE, REASON_OK, 0, 0, 0, 0, 0, 0, 0)
        (
            _,
            self.state,
            self.reason,
            self.attempts,
            self.steps,
            self.stalls,
            self.started,
            self.due,
            self.patching,
            self.config_version,
        ) = struct.unpack_from(_FIELDS, data)
        self.offer = None
        if len(data) > _FIELD_BYTES:
            patch_size, patch, base, n_leave = struct.unpack_from(_REST, data, _REST_AT)
            leave = data[_LEAVE_AT : _LEAVE_AT + n_leave]
            self.offer = Offer(*unpack_offered(data, _FIELD_BYTES), leave, patch, patch_size, base)

    def store(self) -> None:
        """Writes the fields; raises OSError when flash refuses."""
        data = struct.pack(
            _FIELDS,
            _LAYOUT,
            self.state,
            self.reason,
            self.attempts,
            self.steps,
            self.stalls,
            self.started,
            self.due,
            self.patching,
            self.config_version,
        )
        offer = self.offer
        if offer is not None:
            data += pack_offered(offer)
            data += struct.pack(_REST, offer.patch_size, offer.patch, offer.patch_base, len(offer.leave))
            data += offer.leave
        self._record.store(data)

    @property
    def under_way(self) -> bool:
        """True from the offer until the model is armed or refused."""
        return self.state in _UNDER_WAY

    def enter(self, state: int, reason: int = REASON_OK, detail: str = "") -> None:
        """Begins a state, stored and, where it is news to the cloud, reported."""
        self.state = state
        self.reason = reason
        self.attempts = 1
        self.steps = 0 if state in _ENDED else min(self.steps + 1, 255)
        self.due = 1 if state in _REPORTED else 0
        self.store()
        self.fresh = True
        self._detail = detail
        self.report()

    def tell(self, reason: int) -> None:
        """Reports the present state once more, for another reason."""
        self.reason = reason
        self.due = 1
        self.store()
        self._detail = ""
        self.report()

    def report(self) -> None:
        """Makes the report that is due, if one is."""
        if not self.due:
            return
        offer = self.offer
        progress = self.download.progress if self.download else 0
        self._send(self.state, self.reason, offer.name, offer.version, offer.sha8, progress, self._detail[:64])
        self.due = 0
        self.store()


def pack_offered(offer: Offer) -> bytes:
    """What an offer names, without patch and leave, in OFFERED_BYTES."""
    return struct.pack(
        _MODEL,
        offer.sha256,
        offer.sequence,
        offer.size,
        offer.format,
        offer.arch.encode(),
        offer.name.encode(),
        offer.version.encode(),
    )


def unpack_offered(data: bytes, at: int) -> tuple:
    """The first seven arguments of Offer, from where pack_offered put them."""
    digest, sequence, size, form, arch, name, version = struct.unpack_from(_MODEL, data, at)
    return _text(name), _text(version), sequence, digest, size, form, _text(arch)


def _is_plain(text: str, longest: int) -> bool:
    return 1 <= len(text) <= longest and all(" " <= c <= "~" for c in text)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()
