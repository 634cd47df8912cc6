"""Model updates over the air: one state table, persisted before each step.

Theory of operation. Two records share the work. The pointer (slots.py) says what runs and changes in single atomic
stores: ARM, COMMIT and ROLLBACK are one store each. The update record (update_record.py) says how far an offer came;
it is written before a step begins, and every step may be begun again. When power returns between the two, the pointer
is right and start() brings the record in line with it.

    state     what happens                                              then                   else
    IDLE      nothing wanted, or what is wanted runs                    on_want: OFFER
    OFFER     known bad? arch, format, sequence, room; held already?    DOWNLOAD or VERIFY     REFUSED
    DOWNLOAD  4 kB pieces, each a checkpoint on flash; the first one    complete: VERIFY       REFUSED
              carries header, signature and manifest and is checked
              before the spare slot is emptied for it; waits for charge
              and for the hours meant for it
    PATCH     what runs and the patch fetched make the artifact         VERIFY                 DOWNLOAD, whole
    VERIFY    every byte on flash: length, SHA-256, ES256, manifest     SELFTEST               REFUSED, DOWNLOAD
    SELFTEST  loaded from the spare slot: golden vectors, time, heap    ARM                    REFUSED
    ARM       the pointer names it active, the old one previous         TRIAL
    TRIAL     3 clean wakes and a contact with the cloud                COMMIT                 ROLLBACK
    COMMIT    the anti-rollback counter rises                           on_want: OFFER
    ROLLBACK  the pointer names the previous slot, the digest is        on_want: OFFER
              known bad
    REFUSED   the old model runs on, the offer is remembered            newer on_want: OFFER

REFUSED answers one version of the cloud's wishes: the same offer in the same WANT is not looked at twice, a new
WANT may try again. A known-bad digest is refused for ever. VERIFY falls back to DOWNLOAD when the artifact was held
from an earlier time and flash has lost it, or was made by a patch and is not what was offered. DOWNLOAD fetches a patch
where the offer names one for the model that runs; whatever is wrong with it, the artifact is then fetched whole.

Bounds. A state begins at most three times for an offer (a boot that dies in VERIFY or SELFTEST counts), an offer enters
at most 16 states. The trial counts a boot when the one before did not end in deep sleep, before it loads the model:
three such boots or wakes that end in an error take the model back. A model that runs but does not reach the cloud in
72 sessions is taken back too, since nobody can help a board that is silent.

Reports are made at least once: the record says that one is due until it is in the outbox.
"""

import gc

from micropython import const

from contract.wire import (
    REASON_BAD_DIGEST,
    REASON_BAD_FORMAT,
    REASON_BAD_PATCH,
    REASON_CUT,
    REASON_FLASH,
    REASON_LOAD_FAILED,
    REASON_LOW_BATTERY,
    REASON_NO_SPACE,
    REASON_NOT_NOW,
    REASON_NOT_SERVED,
    REASON_OK,
    REASON_SELFTEST_FAILED,
    REASON_STALE_OFFER,
    REASON_TRIAL_FAILED,
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
from device import detector, slots
from device.update_record import Offer, UpdateRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from contract.artifact import Manifest
    from device.files import Files
    from device.trust import Policy

_ENOSPC = const(28)  # the errno module of MicroPython leaves it out
_MAX_BEGINNINGS = const(3)
_MAX_STEPS = const(16)
_MAX_STALLS = const(20)
_TRIAL_CLEAN_WAKES = const(3)
_TRIAL_BAD_ENDS = const(3)
_TRIAL_SILENT_SESSIONS = const(72)  # three days, tried once an hour: longer than most outages last

# What step() does in a state, and the refusal once that has been begun three times.
_STEPS = {
    UPDATE_OFFER: ("_consider", REASON_FLASH),
    UPDATE_PATCH: ("_apply_patch", REASON_BAD_PATCH),
    UPDATE_VERIFY: ("_verify", REASON_BAD_DIGEST),
    UPDATE_SELFTEST: ("_self_test", REASON_SELFTEST_FAILED),
    UPDATE_ARM: ("_arm", REASON_FLASH),
}
_REPORTED = (UPDATE_DOWNLOAD, UPDATE_TRIAL, UPDATE_COMMIT, UPDATE_ROLLBACK, UPDATE_REFUSED)
_ENDED = (UPDATE_COMMIT, UPDATE_ROLLBACK, UPDATE_REFUSED)
_WAITING = (REASON_LOW_BATTERY, REASON_NOT_NOW)


class Updater:
    """Takes the model the cloud wants, and decides at each boot which one runs.

    fs: see files.Files, root: the board's flash; policy: trust.Policy; send(state, reason, name, version, sha8,
    progress_bytes, detail) puts an UPDATE record into the outbox before it returns.

    The caller's order: start() and load() at boot, end_wake() before sleep; in a session on_want(), postpone(),
    next_fetch() and on_chunk() as messages come, then end_session(); step() when there is time and charge for what it
    does. Whatever writes may raise OSError when flash refuses.
    """

    def __init__(self, fs: "Files", root: str, policy: "Policy", send: object) -> None:
        self._fs = fs
        self._root = root
        self._policy = policy
        self._send = send
        self._slots = slots.Slots(fs, root)
        self._record = UpdateRecord(fs, root)
        self._download = None  # made when first needed since boot
        self._fresh = False  # this boot entered the present state
        self._on_trial = False  # the loaded model is on trial
        self._detail = ""
        self._newest_want = 0
        self._asked = False
        self._moved = False
        self.switched = False  # another model became active since load()

    @property
    def state(self) -> int:
        """UPDATE_*."""
        return self._record.state

    @property
    def model(self) -> slots.Installed | None:
        """The active model, None for SAFE."""
        return self._slots.model

    @property
    def places(self) -> slots.Slots:
        """The slots and their pointer, to be read."""
        return self._slots

    @property
    def sequence(self) -> int:
        """The anti-rollback counter."""
        return self._slots.sequence

    @property
    def wants_session(self) -> bool:
        """True when the update goes no further without the cloud."""
        return self._record.state == UPDATE_DOWNLOAD or bool(self._slots.trial and not self._slots.contacted)

    def unload(self) -> None:
        """Let go of the active model's code until the next boot."""
        if self._slots.active != slots.NONE:
            detector.unload(self._slots, self._slots.active)

    def open_head(self) -> "BinaryIO":
        """The file of the active model, not SAFE, whose manifest tells its bins; raises OSError."""
        return self._fs.open(self._slots.head_path(self._slots.active), "rb")

    def previous(self) -> detector.Detector | None:
        """The model before the active one, which this board ran, to give its opinion; None where there is none.

        Its digest is taken again: nothing else looks at that slot between an update and the way back.
        """
        places = self._slots
        model = places.models[places.previous] if places.previous != slots.NONE else None
        if model is None or model.sequence < places.floor:  # the active model's publisher says it is dangerous
            return None
        try:
            return detector.load(places, places.previous, model, self._policy.schema_hash, True)
        except detector.DetectorError:
            return None

    # Boot and sleep

    def start(self, slept: bool) -> None:
        """First of all at each boot. `slept`: the boot ends a deep sleep the board went into by itself."""
        if self._slots.trial and not slept:
            self._count_bad_end("%d boots after a bad end")
        self._reconcile()
        self._report()

    def load(self, recheck: bool) -> detector.Detector | None:
        """The model to score with, from the active slot or, when that fails, the previous; None: use SAFE.

        `recheck`: take the digest of what is on flash again, as after a cold start; a trial does so anyway.
        """
        places = self._slots
        while places.model is not None:
            try:
                model = detector.load(
                    places, places.active, places.model, self._policy.schema_hash, bool(recheck or places.trial)
                )
                self._on_trial = bool(places.trial)
                self.switched = False
                return model
            except detector.DetectorError as e:
                self._give_up(e.code, e.detail)
        self._on_trial = self.switched = False
        return None

    def end_wake(self, clean: bool) -> None:
        """Last of all before sleep. `clean`: the wake ended without an error that the model may have caused."""
        if not (self._on_trial and self._slots.trial):
            return
        if not clean:
            self._count_bad_end("%d wakes ended badly")
        else:
            if self._slots.clean < _TRIAL_CLEAN_WAKES:
                self._slots.count_clean()
            self._commit_when_due()

    # A session

    def on_want(self, config_version: int, model: tuple | None) -> int:
        """Takes WANT's model, the fields of update_record.Offer, or None, which asks for nothing.

        Returns REASON_OK, or why nothing will come of it.
        """
        if config_version < self._newest_want:
            return REASON_STALE_OFFER
        self._newest_want = config_version
        if model is None:
            return REASON_OK
        offer = Offer(*model)
        if not offer.is_sound():
            return REASON_BAD_FORMAT
        record = self._record
        if self._slots.trial:  # ends first, and the retained WANT comes again; unless the old model is wanted back
            if self._slots.previous != slots.NONE and self._slots.holds(offer.sha256):
                self._roll_back("as the cloud asked", REASON_OK)
            return REASON_OK
        if self._slots.model is not None and self._slots.model.sha256 == offer.sha256:
            if record.state == UPDATE_DOWNLOAD or record.state in _STEPS:
                record.state = UPDATE_IDLE  # the cloud changed its mind
                record.store()
            return REASON_OK
        if record.offer is not None and record.offer.sha256 == offer.sha256:
            if record.state == UPDATE_DOWNLOAD or record.state in _STEPS:
                return REASON_OK
            if record.state in (UPDATE_REFUSED, UPDATE_ROLLBACK) and record.config_version == config_version:
                return record.reason
        if record.patching:
            self._patching.discard(self._fs, self._root)
        record.offer = offer
        record.config_version = config_version
        record.steps = record.stalls = record.started = record.patching = 0
        self._download = None
        self._enter(UPDATE_OFFER)
        return REASON_OK

    def on_statement(self, data: "bytes | memoryview", now_s: int) -> int:
        """Takes a publisher's statement on its keys. Returns REASON_OK, or why it changes nothing."""
        from contract.artifact import ArtifactError

        try:
            self._policy.keys.take(data, now_s)
        except ArtifactError as e:
            return e.code
        return REASON_OK

    def postpone(self, reason: int) -> bool:
        """Whether a download has to wait, for REASON_LOW_BATTERY or REASON_NOT_NOW; the cloud is told once, and again
        when it goes on with REASON_OK."""
        record = self._record
        news = reason != record.reason and (reason != REASON_OK or record.reason in _WAITING)
        if record.state == UPDATE_DOWNLOAD and news:
            if self._download is None:
                self._download = self._begin_download()
            record.reason = reason
            record.due = 1
            record.store()
            self._detail = ""
            self._report()
        return reason != REASON_OK

    def next_fetch(self) -> tuple | None:
        """(sha8, offset, length) of the piece to ask for now, or None; the same one until it has come."""
        record = self._record
        if record.state != UPDATE_DOWNLOAD:
            return None
        if self._download is None:
            self._download = self._begin_download()
        offset, length = self._download.next_piece()
        if length == 0:  # the cut came between the last piece and the next state
            self._enter(UPDATE_PATCH if record.patching else UPDATE_VERIFY)
            return None
        self._asked = True
        return record.offer.patch if record.patching else record.offer.sha8, offset, length

    def on_chunk(self, sha8: bytes, offset: int, data: "bytes | memoryview", total: int, now_s: int) -> int:
        """Takes a CHUNK; now_s: unix time in seconds, or 0. Returns REASON_OK, or why the artifact was refused.

        A piece that was not asked for (another artifact, another place) is passed over.
        """
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
        """After each session and each failed try for one; `reached`: the cloud acknowledged something."""
        self._newest_want = 0  # a version nobody signed must not lock out all later ones
        if self._on_trial and self._slots.trial:
            if not self._slots.contacted:
                self._slots.count_contact(reached)
            if self._slots.silent >= _TRIAL_SILENT_SESSIONS and not self._slots.contacted:
                self._roll_back("%d sessions without an answer" % self._slots.silent)
            else:
                self._commit_when_due()
        record = self._record
        if reached and self._asked and not self._moved and record.state == UPDATE_DOWNLOAD:
            record.stalls += 1
            if record.stalls >= _MAX_STALLS:
                self._refuse(REASON_NOT_SERVED, "%d sessions without a piece" % record.stalls)
            else:
                record.store()
        self._asked = self._moved = False

    def step(self, now_s: int) -> bool:
        """Does what the present state asks for; True when the next one can be done at once.

        VERIFY takes about a second on an ESP32. SELFTEST needs the heap the new model needs: best done before load().
        """
        record = self._record
        if record.state not in _STEPS:
            return False
        method, reason = _STEPS[record.state]
        if not self._fresh:  # an earlier boot began this and did not end it
            if record.attempts >= _MAX_BEGINNINGS and record.state == UPDATE_PATCH:
                self._guarded(self._fetch_whole, "begun %d times" % record.attempts)
                return False
            if record.attempts >= _MAX_BEGINNINGS:
                if record.state == UPDATE_SELFTEST:
                    self._slots.condemn(record.offer.sha8)
                self._refuse(reason, "begun %d times" % record.attempts)
                return False
            record.attempts += 1
            record.store()
        self._fresh = False
        if record.steps > _MAX_STEPS:
            self._refuse(reason, "%d states" % record.steps)
        else:
            self._guarded(getattr(self, method), now_s)
        return record.state in _STEPS

    # What the states do

    def _consider(self, now_s: int) -> None:
        offer = self._record.offer
        self._admission.check_offer(self._fs, self._root, self._slots, offer, self._policy, now_s)
        if self._slots.holds(offer.sha256):
            self._enter(UPDATE_VERIFY)
            return
        if offer.patch_size and self._patching.suits(self._slots, self._record):
            self._patching.discard(self._fs, self._root)
            self._record.patching = 1
        self._enter(UPDATE_DOWNLOAD)

    def _take_piece(self, offset: int, data: "bytes | memoryview", now_s: int) -> None:
        record = self._record
        if record.patching:
            self._download.write(data)
            self._moved = True
            if self._download.progress == record.offer.patch_size:
                self._enter(UPDATE_PATCH)
            return
        if offset == 0:
            head, _ = self._admission.check_head(data, record.offer, self._policy, self._slots, now_s)
            self._download.begin(head.header.payload_at)
        self._download.write(data)
        self._moved = True
        if self._download.progress == record.offer.size:
            self._enter(UPDATE_VERIFY)

    def _apply_patch(self, now_s: int) -> None:
        from contract.patch import PatchError

        self._download = None
        try:
            self._patching.apply(
                self._fs, self._root, self._slots, self._record, self._policy, self._begin_download(), now_s
            )
        except (PatchError, EOFError, OSError, MemoryError, self._admission.ArtifactError) as e:
            self._fetch_whole(str(e))
            return
        self._enter(UPDATE_VERIFY)

    def _fetch_whole(self, detail: str) -> None:
        """A patch is no use: the artifact itself is fetched."""
        record = self._record
        if record.started:
            self._slots.vacate(self._slots.spare())
        self._patching.discard(self._fs, self._root)
        record.patching = record.started = 0
        self._download = None
        self._enter(UPDATE_DOWNLOAD, REASON_BAD_PATCH, detail)

    def _verify(self, now_s: int) -> None:
        slot = self._slots.spare()
        try:
            self._admission.check_flash(self._fs, self._slots, slot, self._record.offer, self._policy, now_s)
        except (OSError, self._admission.ArtifactError) as e:
            lost = isinstance(e, OSError) or e.code in (REASON_BAD_DIGEST, REASON_CUT)
            if self._record.patching and lost:
                self._fetch_whole(str(e))
                return
            if self._record.started or not lost:
                raise
            self._slots.vacate(slot)  # held from an earlier time
            self._enter(UPDATE_DOWNLOAD)
            return
        if self._record.patching:
            self._patching.discard(self._fs, self._root)
        self._enter(UPDATE_SELFTEST)

    def _self_test(self, _now_s: int) -> None:
        places = self._slots
        slot = places.spare()
        manifest = self._unchanged(slot)
        model = detector.load(
            places, slot, slots.installed(manifest, self._record.offer.sha256), self._policy.schema_hash, False
        )
        vectors = self._admission.golden_vectors(self._fs, places, slot, manifest)
        detector.self_test(model, vectors, manifest.tolerance)
        detector.unload(places, slot)
        self._enter(UPDATE_ARM)

    def _arm(self, _now_s: int) -> None:
        slot = self._slots.spare()
        manifest = self._unchanged(slot)
        self._slots.arm(slot, slots.installed(manifest, self._record.offer.sha256))
        self.switched = True
        self._enter(UPDATE_TRIAL)

    def _unchanged(self, slot: int) -> "Manifest":
        """The manifest in a slot, once its bytes have been shown to be those that were verified."""
        offer = self._record.offer
        if self._slots.digest(slot, offer.format) != offer.sha256:
            raise self._admission.ArtifactError(REASON_BAD_DIGEST, "changed after verification")
        return self._admission.read_manifest(self._fs, self._slots, slot)

    # The trial

    def _commit_when_due(self) -> None:
        if self._slots.clean >= _TRIAL_CLEAN_WAKES and self._slots.contacted:
            self._slots.commit()
            self._enter(UPDATE_COMMIT)

    def _count_bad_end(self, detail: str) -> None:
        self._slots.count_crash()
        if self._slots.crashes >= _TRIAL_BAD_ENDS:
            self._roll_back(detail % self._slots.crashes)

    def _roll_back(self, detail: str, reason: int = REASON_TRIAL_FAILED) -> None:
        self._match_offer()
        self._slots.fall_back(reason, reason != REASON_OK)
        self.switched = True
        self._enter(UPDATE_ROLLBACK, reason, detail)

    def _give_up(self, reason: int, detail: str) -> None:
        """The active model can not be loaded."""
        if self._slots.trial:
            self._roll_back(detail, reason)
            return
        # No fault of the model: flash decayed, or the board's features were changed. It may be offered again. The
        # report comes first, since once the pointer has changed nothing remembers that it is due.
        model = self._slots.model
        self._send(UPDATE_ROLLBACK, reason, model.name, model.version, model.sha8, 0, detail[:64])
        self._slots.fall_back(reason, False)

    # Bookkeeping

    def _reconcile(self) -> None:
        """Brings the record in line with the pointer, which is always right."""
        record = self._record
        if self._slots.trial:
            if record.state != UPDATE_TRIAL:
                self._match_offer()
                self._enter(UPDATE_TRIAL)
        elif record.state in (UPDATE_ARM, UPDATE_TRIAL):
            model = self._slots.model
            if model is not None and record.offer is not None and model.sha256 == record.offer.sha256:
                self._enter(UPDATE_COMMIT)
            elif record.state == UPDATE_TRIAL:
                self._enter(UPDATE_ROLLBACK, self._slots.reason)

    def _match_offer(self) -> None:
        """Makes the record speak of the model on trial, should it have been lost."""
        model = self._slots.model
        offer = self._record.offer
        if offer is None or offer.sha256 != model.sha256:
            self._record.offer = Offer(
                model.name, model.version, model.sequence, model.sha256, 0, model.format, self._policy.arch
            )

    def _enter(self, state: int, reason: int = REASON_OK, detail: str = "") -> None:
        record = self._record
        record.state = state
        record.reason = reason
        record.attempts = 1
        record.steps = 0 if state in _ENDED else min(record.steps + 1, 255)
        record.due = 1 if state in _REPORTED else 0
        record.store()
        self._fresh = True
        self._detail = detail
        self._report()

    def _refuse(self, reason: int, detail: str = "") -> None:
        written = self._record.started or self._record.state == UPDATE_SELFTEST
        if self._record.patching:
            self._patching.discard(self._fs, self._root)
        self._enter(UPDATE_REFUSED, reason, detail)
        if written:
            self._slots.vacate(self._slots.spare())

    def _report(self) -> None:
        record = self._record
        if not record.due:
            return
        offer = record.offer
        progress = self._download.progress if self._download else 0
        self._send(record.state, record.reason, offer.name, offer.version, offer.sha8, progress, self._detail[:64])
        record.due = 0
        record.store()

    def _guarded(self, action: object, *args: object) -> None:
        """Runs one step; what it finds wrong with the artifact, or with flash, becomes a refusal."""
        try:
            action(*args)
        except (self._admission.ArtifactError, detector.DetectorError) as e:
            self._refuse(e.code, e.detail)
        except OSError as e:
            self._refuse(REASON_NO_SPACE if e.errno == _ENOSPC else REASON_FLASH, str(e))
        except MemoryError as e:
            self._refuse(REASON_LOAD_FAILED, str(e))
        gc.collect()

    # A wake without an update needs neither the container format nor elliptic curves: they are imported when one does.

    @property
    def _admission(self) -> object:
        from device import admission

        return admission

    @property
    def _patching(self) -> object:
        from device import patching

        return patching

    def _begin_download(self) -> object:
        if self._record.patching and self._record.state == UPDATE_DOWNLOAD:
            return self._patching.PatchDownload(self._fs, self._root, self._record)
        from device import download

        return download.Download(self._fs, self._root, self._slots, self._record, self._slots.spare())
