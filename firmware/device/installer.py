"""From an offer to a model that is armed: looked at, fetched, patched, verified, tested. update.py has the table.

Imported when there is an update: a wake without one needs neither the container format nor elliptic curves. What takes
a patch is imported when the offer is taken as one.
"""

import gc

from micropython import const

from contract.artifact import ArtifactError
from contract.wire import (
    REASON_BAD_DIGEST,
    REASON_BAD_PATCH,
    REASON_CUT,
    REASON_FLASH,
    REASON_LOAD_FAILED,
    REASON_NO_SPACE,
    REASON_NOT_SERVED,
    REASON_OK,
    REASON_SELFTEST_FAILED,
    UPDATE_ARM,
    UPDATE_DOWNLOAD,
    UPDATE_OFFER,
    UPDATE_PATCH,
    UPDATE_REFUSED,
    UPDATE_SELFTEST,
    UPDATE_TRIAL,
    UPDATE_VERIFY,
)
from device import admission, detector, slots
from device.download import Download

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contract.artifact import Manifest
    from device.files import Files
    from device.patching import PatchDownload
    from device.trust import Policy
    from device.update_record import UpdateRecord

_ENOSPC = const(28)  # the errno module of MicroPython leaves it out
_MAX_BEGINNINGS = const(3)
_MAX_STEPS = const(16)
_MAX_STALLS = const(20)

# What step() does in a state, and the refusal once that has been begun three times.
_STEPS = {
    UPDATE_OFFER: ("_consider", REASON_FLASH),
    UPDATE_PATCH: ("_apply_patch", REASON_BAD_PATCH),
    UPDATE_VERIFY: ("_verify", REASON_BAD_DIGEST),
    UPDATE_SELFTEST: ("_self_test", REASON_SELFTEST_FAILED),
    UPDATE_ARM: ("_arm", REASON_FLASH),
}


class Installer:
    """Does what record.state asks for, into the spare one of `places`; fs, root and policy as for update.Updater.

    download(), next_fetch() and on_chunk() are for state DOWNLOAD. What writes may raise OSError when flash refuses.
    """

    def __init__(self, fs: "Files", root: str, policy: "Policy", places: slots.Slots, record: "UpdateRecord") -> None:
        self._fs = fs
        self._root = root
        self._policy = policy
        self._places = places
        self._record = record
        self._asked = False
        self._moved = False

    def step(self, now_s: int) -> bool:
        """As update.Updater.step."""
        record = self._record
        if record.state not in _STEPS:
            return False
        method, reason = _STEPS[record.state]
        if not record.fresh:  # an earlier boot began this and did not end it
            if record.attempts >= _MAX_BEGINNINGS and record.state == UPDATE_PATCH:
                self._guarded(self._fetch_whole, "begun %d times" % record.attempts)
                return False
            if record.attempts >= _MAX_BEGINNINGS:
                if record.state == UPDATE_SELFTEST:
                    self._places.condemn(record.offer.sha8)
                self._refuse(reason, "begun %d times" % record.attempts)
                return False
            record.attempts += 1
            record.store()
        record.fresh = False
        if record.steps > _MAX_STEPS:
            self._refuse(reason, "%d states" % record.steps)
        else:
            self._guarded(getattr(self, method), now_s)
        return record.state in _STEPS

    def _consider(self, now_s: int) -> None:
        offer = self._record.offer
        admission.check_offer(self._fs, self._root, self._places, offer, self._policy, now_s)
        if self._places.holds(offer.sha256):
            self._record.enter(UPDATE_VERIFY)
            return
        if offer.patch_size and self._patching.suits(self._fs, self._root, self._places, offer):
            self.discard_patch()
            self._record.patching = 1
        self._record.enter(UPDATE_DOWNLOAD)

    # The download

    def download(self) -> "Download | PatchDownload":
        """What fetches the offer, with its progress."""
        record = self._record
        if record.download is None:
            if record.patching:
                record.download = self._patching.PatchDownload(self._fs, self._root, record)
            else:
                record.download = self._whole()
        return record.download

    def next_fetch(self) -> tuple | None:
        """As update.Updater.next_fetch."""
        record = self._record
        offset, length = self.download().next_piece()
        if length == 0:  # the cut came between the last piece and the next state
            record.enter(UPDATE_PATCH if record.patching else UPDATE_VERIFY)
            return None
        self._asked = True
        return record.offer.patch if record.patching else record.offer.sha8, offset, length

    def on_chunk(self, sha8: bytes, offset: int, data: "bytes | memoryview", total: int, now_s: int) -> int:
        """As update.Updater.on_chunk."""
        wanted = self.next_fetch()
        if wanted is None or wanted[0] != bytes(sha8) or (len(data) and wanted[1] != offset):
            return REASON_OK
        patching = self._record.patching
        size = self._record.offer.patch_size if patching else self._record.offer.size
        if patching and (not len(data) or total != size or offset + len(data) > size):
            self._guarded(self._fetch_whole, "patch not served")
        elif not len(data):
            self._refuse(REASON_NOT_SERVED)
        elif total != size or offset + len(data) > size:
            self._refuse(REASON_CUT, "%d bytes, not %d" % (total, size))
        else:
            self._guarded(self._take_piece, offset, data, now_s)
        return self._record.reason

    def end_session(self, reached: bool) -> None:
        """As update.Updater.end_session: a cloud that answers and sends nothing is not asked for ever."""
        record = self._record
        if reached and self._asked and not self._moved and record.state == UPDATE_DOWNLOAD:
            record.stalls += 1
            if record.stalls >= _MAX_STALLS:
                self._refuse(REASON_NOT_SERVED, "%d sessions without a piece" % record.stalls)
            else:
                record.store()
        self._asked = self._moved = False

    def _whole(self) -> Download:
        return Download(self._fs, self._root, self._places, self._record, self._places.spare())

    def _take_piece(self, offset: int, data: "bytes | memoryview", now_s: int) -> None:
        record = self._record
        if offset == 0 and not record.patching:
            head, _ = admission.check_head(data, record.offer, self._policy, self._places, now_s)
            record.download.begin(head.header.payload_at)
        try:
            record.download.write(data)
        except OSError as e:
            if not record.patching:
                raise
            self._fetch_whole(str(e))  # the room that a patch takes beside the artifact is not owed to it
            return
        self._moved = True
        if record.patching and record.download.progress == record.offer.patch_size:
            record.enter(UPDATE_PATCH)
        elif not record.patching and record.download.progress == record.offer.size:
            record.enter(UPDATE_VERIFY)

    # A patch

    @property
    def _patching(self) -> object:
        from device import patching

        return patching

    def discard_patch(self) -> None:
        """Removes what there is of a patch."""
        self._patching.discard(self._fs, self._root)

    def _apply_patch(self, now_s: int) -> None:
        self._record.download = None
        try:
            self._patching.apply(self._fs, self._root, self._places, self._record, self._policy, self._whole(), now_s)
        except (ArtifactError, EOFError, OSError, MemoryError) as e:
            self._fetch_whole(str(e))
            return
        self._record.enter(UPDATE_VERIFY)

    def _fetch_whole(self, detail: str) -> None:
        """A patch is no use: the artifact itself is fetched."""
        record = self._record
        if record.started:
            self._places.vacate(self._places.spare())
        self.discard_patch()
        record.patching = record.started = 0
        record.download = None
        record.enter(UPDATE_DOWNLOAD, REASON_BAD_PATCH, detail)

    # What is in the slot

    def _verify(self, now_s: int) -> None:
        record, slot = self._record, self._places.spare()
        try:
            admission.check_flash(self._fs, self._places, slot, record.offer, self._policy, now_s)
        except (OSError, ArtifactError) as e:
            lost = isinstance(e, OSError) or e.code in (REASON_BAD_DIGEST, REASON_CUT)
            if record.patching and lost:
                self._fetch_whole(str(e))
                return
            if record.started or not lost:
                raise
            self._places.vacate(slot)  # held from an earlier time
            record.enter(UPDATE_DOWNLOAD)
            return
        if record.patching:
            self.discard_patch()
        record.enter(UPDATE_SELFTEST)

    def _self_test(self, _now_s: int) -> None:
        places = self._places
        slot = places.spare()
        manifest = self._unchanged(slot)
        model = detector.load(
            places, slot, slots.installed(manifest, self._record.offer.sha256), self._policy.schema_hash, False
        )
        vectors = admission.golden_vectors(self._fs, places, slot, manifest)
        detector.self_test(model, vectors, manifest.tolerance)
        detector.unload(places, slot)
        self._record.enter(UPDATE_ARM)

    def _arm(self, _now_s: int) -> None:
        slot = self._places.spare()
        manifest = self._unchanged(slot)
        self._places.arm(slot, slots.installed(manifest, self._record.offer.sha256))
        self._record.enter(UPDATE_TRIAL)

    def _unchanged(self, slot: int) -> "Manifest":
        """The manifest in a slot, once its bytes have been shown to be those that were verified."""
        offer = self._record.offer
        if self._places.digest(slot, offer.format) != offer.sha256:
            raise ArtifactError(REASON_BAD_DIGEST, "changed after verification")
        return admission.read_manifest(self._fs, self._places, slot)

    # What ends in a refusal

    def _refuse(self, reason: int, detail: str = "") -> None:
        written = self._record.started or self._record.state == UPDATE_SELFTEST
        if self._record.patching:
            self.discard_patch()
        self._record.enter(UPDATE_REFUSED, reason, detail)
        if written:
            self._places.vacate(self._places.spare())

    def _guarded(self, action: object, *args: object) -> None:
        """Runs one step; what it finds wrong with the artifact, or with flash, becomes a refusal."""
        try:
            action(*args)
        except (ArtifactError, detector.DetectorError) as e:
            self._refuse(e.code, e.detail)
        except OSError as e:
            self._refuse(REASON_NO_SPACE if e.errno == _ENOSPC else REASON_FLASH, str(e))
        except MemoryError as e:
            self._refuse(REASON_LOAD_FAILED, str(e))
        gc.collect()
