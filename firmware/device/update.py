"""Model updates over the air: one state table, persisted before each step.

Theory of operation. Two records share the work. The pointer (slots.py) says what runs and changes in single atomic
stores: ARM, COMMIT and ROLLBACK are one store each. The update record (update_record.py) says how far an offer came;
it is written before a step begins, and every step may be begun again. When power returns between the two, the pointer
is right and start() brings the record in line with it. OFFER to ARM are the work of installer.py; what runs, the trial
and the way back are here.

    state     what happens                                              then                   else
    IDLE      nothing wanted, or what is wanted runs                    on_want: OFFER
    OFFER     known bad? arch, format, sequence, room; held already?    DOWNLOAD or VERIFY     REFUSED
    DOWNLOAD  4 kB pieces, each a checkpoint on flash; the first one    complete: VERIFY       REFUSED
              carries header, signature and manifest and is checked
              before the spare slot is emptied for it; waits for charge
              and for the hours meant for it
    PATCH     what runs and the patch fetched make the artifact, or     VERIFY                 DOWNLOAD, whole
              it is inflated
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
where the offer names one for the model that runs, or for any board; whatever is wrong with it, the artifact is then
fetched whole.

Bounds. A state begins at most three times for an offer (a boot that dies in VERIFY or SELFTEST counts), an offer enters
at most 16 states. The trial counts a boot when the one before did not end in deep sleep, before it loads the model:
three such boots or wakes that end in an error take the model back. A model that runs but does not reach the cloud in
72 sessions is taken back too, since nobody can help a board that is silent.

Reports are made at least once: the record says that one is due until it is in the outbox.
"""

import gc

from micropython import const

from contract.wire import (
    REASON_BAD_FORMAT,
    REASON_LOW_BATTERY,
    REASON_NOT_NOW,
    REASON_OK,
    REASON_STALE_OFFER,
    REASON_TRIAL_FAILED,
    UPDATE_ARM,
    UPDATE_COMMIT,
    UPDATE_DOWNLOAD,
    UPDATE_IDLE,
    UPDATE_OFFER,
    UPDATE_REFUSED,
    UPDATE_ROLLBACK,
    UPDATE_TRIAL,
)
from device import detector, slots
from device.update_record import Offer, UpdateRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from device.files import Files
    from device.installer import Installer
    from device.trust import Policy

_WAITING = (REASON_LOW_BATTERY, REASON_NOT_NOW)
_TRIAL_CLEAN_WAKES = const(3)
_TRIAL_BAD_ENDS = const(3)
_TRIAL_SILENT_SESSIONS = const(72)  # three days, tried once an hour: longer than most outages last


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
        self._record = UpdateRecord(fs, root, send)
        self._installing: "Installer | None" = None  # until this boot needs one
        self._loaded = self._slots.active
        self._on_trial = False  # the loaded model is on trial
        self._newest_want = 0

    @property
    def state(self) -> int:
        """UPDATE_*."""
        return self._record.state

    @property
    def model(self) -> slots.Installed | None:
        """The active model, None for SAFE."""
        return self._slots.model

    @property
    def switched(self) -> bool:
        """True when another model became active since load()."""
        return self._slots.active != self._loaded

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
        self._record.report()

    def load(self, recheck: bool) -> detector.Detector | None:
        """The model to score with, from the active slot or, when that fails, the previous; None: use SAFE.

        `recheck`: take the digest of what is on flash again, as after a cold start; a trial does so anyway.
        """
        places = self._slots
        while places.model is not None:
            self._on_trial = bool(places.trial)  # before it is loaded: a heap too small for it counts against it
            try:
                model = detector.load(
                    places, places.active, places.model, self._policy.schema_hash, bool(recheck or places.trial)
                )
                self._loaded = places.active
                return model
            except detector.DetectorError as e:
                self._give_up(e.code, e.detail)
        self._loaded = places.active
        self._on_trial = False
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
            if record.under_way:
                record.state = UPDATE_IDLE  # the cloud changed its mind
                record.store()
            return REASON_OK
        if record.offer is not None and record.offer.sha256 == offer.sha256:
            if record.under_way:
                return REASON_OK
            if record.state in (UPDATE_REFUSED, UPDATE_ROLLBACK) and record.config_version == config_version:
                return record.reason
        if record.patching:
            self._installer.discard_patch()
        record.offer = offer
        record.config_version = config_version
        record.steps = record.stalls = record.started = record.patching = 0
        record.download = None
        record.enter(UPDATE_OFFER)
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
            self._installer.download()  # the report has its progress
            record.tell(reason)
        return reason != REASON_OK

    def next_fetch(self) -> tuple | None:
        """(sha8, offset, length) of the piece to ask for now, or None; the same one until it has come."""
        return self._installer.next_fetch() if self._record.state == UPDATE_DOWNLOAD else None

    def on_chunk(self, sha8: bytes, offset: int, data: "bytes | memoryview", total: int, now_s: int) -> int:
        """Takes a CHUNK; now_s: unix time in seconds, or 0. Returns REASON_OK, or why the artifact was refused.

        A piece that was not asked for (another artifact, another place) is passed over.
        """
        if self._record.state != UPDATE_DOWNLOAD:
            return REASON_OK
        return self._installer.on_chunk(sha8, offset, data, total, now_s)

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
        if self._installing is not None:
            self._installing.end_session(reached)

    def step(self, now_s: int) -> bool:
        """Does what the present state asks for; True when the next one can be done at once.

        VERIFY takes about a second on an ESP32. SELFTEST needs the heap the new model needs: best done before load().
        """
        if not self._record.under_way or self._record.state == UPDATE_DOWNLOAD:
            return False
        return self._installer.step(now_s)

    @property
    def _installer(self) -> "Installer":
        if self._installing is None:
            gc.collect()  # its code stays: it belongs where garbage lies now, not behind it
            from device.installer import Installer

            self._installing = Installer(self._fs, self._root, self._policy, self._slots, self._record)
        return self._installing

    # The trial

    def _commit_when_due(self) -> None:
        if self._slots.clean >= _TRIAL_CLEAN_WAKES and self._slots.contacted:
            self._slots.commit()
            self._record.enter(UPDATE_COMMIT)

    def _count_bad_end(self, detail: str) -> None:
        self._slots.count_crash()
        if self._slots.crashes >= _TRIAL_BAD_ENDS:
            self._roll_back(detail % self._slots.crashes)

    def _roll_back(self, detail: str, reason: int = REASON_TRIAL_FAILED) -> None:
        self._match_offer()
        self._slots.fall_back(reason, reason != REASON_OK)
        self._record.enter(UPDATE_ROLLBACK, reason, detail)

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
                self._record.enter(UPDATE_TRIAL)
        elif record.state in (UPDATE_ARM, UPDATE_TRIAL):
            model = self._slots.model
            if model is not None and record.offer is not None and model.sha256 == record.offer.sha256:
                self._record.enter(UPDATE_COMMIT)
            elif record.state == UPDATE_TRIAL:
                self._record.enter(UPDATE_ROLLBACK, self._slots.reason)

    def _match_offer(self) -> None:
        """Makes the record speak of the model on trial, should it have been lost."""
        model = self._slots.model
        offer = self._record.offer
        if offer is None or offer.sha256 != model.sha256:
            self._record.offer = Offer(
                model.name, model.version, model.sequence, model.sha256, 0, model.format, self._policy.arch
            )
