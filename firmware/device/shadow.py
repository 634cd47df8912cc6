"""A model that scores beside the active one and never decides.

Theory of operation. One record, shadow_record.py, says what the shadow's own slot holds; it is written before a step
begins, and each step may be begun again. No step writes the pointer, and no step of an update (update.py) reads this
record: to decide, the same model has to be wanted as `model`, downloaded again, and go through a trial of its own.

    state     what happens                                              then      else
    NONE      no shadow was ever wanted                                 FETCH
    FETCH     offer checked; 4 kB pieces, the first one carries head    CHECK     ENDED
              and signature and is checked before the slot is written
    CHECK     every byte on flash, as an update's VERIFY; loaded        RUN       ENDED
              beside the active model: golden vectors, time, heap
    RUN       scores each window the active model has scored            ENDED
    ENDED     the slot is empty, the reason is remembered               FETCH

What is wanted is the field `shadow` of WANT: without it what there is goes. An artifact signed as a model may be a
shadow; one signed as a shadow can never decide (contract/artifact.py).

Local guards. What begins a wake in which the one before died of the shadow (shadow_wake.py finds out) counts it, and
three in a row end the shadow; so does a failure to load, or one to score. These are never taken again as a shadow. Too
little heap ends it as well, and may be tried again: the reason is the board's. During the trial of an active model a
shadow rests, so that no end of a wake counts against the wrong one.

A report is made at least once: the record says that one is due until it is in the outbox.
"""

import gc

from micropython import const

from contract.wire import (
    REASON_BAD_FORMAT,
    REASON_CUT,
    REASON_FLASH,
    REASON_KNOWN_BAD,
    REASON_LOAD_FAILED,
    REASON_MISMATCH,
    REASON_NO_MEMORY,
    REASON_NO_SPACE,
    REASON_NOT_SERVED,
    REASON_OK,
    REASON_SELFTEST_FAILED,
    REASON_STALE_OFFER,
    REASON_TRIAL_FAILED,
    UPDATE_SHADOW,
    UPDATE_SHADOW_ENDED,
)
from device import detector, slots
from device.files import make_directory
from device.shadow_record import CHECK, ENDED, FETCH, RUN, ShadowRecord
from device.update_record import Offer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from device.files import Files

_ENOSPC = const(28)  # the errno module of MicroPython leaves it out
_MAX_BEGINNINGS = const(3)
_MAX_CRASHES = const(3)
_MAX_STALLS = const(20)
_RESERVE_BYTES = const(16384)  # of heap, with both models loaded: a window, its features, and a record of them


class Shadow:
    """Takes the shadow model the cloud wants, and lets go of it; fs, root, policy and send as for update.Updater.

    places: the Slots whose shadow slot it uses. The caller's order is an Updater's: start() at boot; in a session
    on_want(), next_fetch() and on_chunk(), then end_session(); step() before any model is loaded. Whatever writes may
    raise OSError when flash refuses.
    """

    def __init__(self, fs: "Files", root: str, policy: object, places: slots.Slots, send: object) -> None:
        self._fs = fs
        self._root = root
        self._policy = policy
        self._places = places
        self._send = send
        self._record = ShadowRecord(fs, root)
        self._download = None
        self._detail = ""
        self._newest_want = 0
        self._asked = self._moved = False

    @property
    def model(self) -> slots.Installed | None:
        """The shadow model, None where none scores."""
        return self._record.model if self._record.state == RUN else None

    @property
    def held(self) -> bool:
        """True while there is something to do for a shadow at the next wake."""
        return self._record.state in (FETCH, CHECK, RUN) or bool(self._record.started or self._record.due)

    @property
    def fetching(self) -> bool:
        """True when it goes no further without the cloud."""
        return self._record.state == FETCH

    @property
    def rests(self) -> bool:
        """True during the trial of an active model: whatever goes wrong is about that one."""
        return bool(self._places.trial)

    def start(self, blamed: bool) -> None:
        """First of all at each boot. `blamed`: the wake before died while the shadow ran."""
        record, active = self._record, self._places.model
        if record.state == RUN and blamed:
            record.crashes += 1
            record.store()
            if record.crashes >= _MAX_CRASHES:
                self._end(REASON_TRIAL_FAILED, "%d boots after a bad end" % record.crashes, True)
        if record.state == RUN and active is not None and active.sha256 == record.model.sha256:
            self._end(REASON_OK, "it decides now")
        self._tidy()

    def on_want(self, config_version: int, model: tuple | None) -> int:
        """Takes WANT's shadow, the fields of update_record.Offer, or None: there shall be none.

        Returns REASON_OK, or why nothing will come of it.
        """
        if config_version < self._newest_want:
            return REASON_STALE_OFFER
        self._newest_want = config_version
        record = self._record
        running = record.state in (FETCH, CHECK, RUN)
        if model is None:
            if running:
                self._end(REASON_OK, "as the cloud asked")
            return REASON_OK
        offer = Offer(*model[:7])  # neither a leave nor a patch: a shadow may not be older, and is fetched whole
        if not offer.is_sound():
            return REASON_BAD_FORMAT
        if record.offer is not None and record.offer.sha256 == offer.sha256:
            if running:
                return REASON_OK
            if record.state == ENDED and record.config_version == config_version and record.reason != REASON_OK:
                return record.reason
        if running:
            self._end(REASON_OK, "another one is wanted")
        record.offer = offer
        record.model = None
        record.config_version = config_version
        record.attempts = record.stalls = record.crashes = 0
        self._download = None
        self._guarded(self._consider)
        return record.reason

    def next_fetch(self) -> tuple | None:
        """(sha8, offset, length) of the piece to ask for now, or None; the same one until it has come."""
        record = self._record
        if record.state != FETCH:
            return None
        if self._download is None:
            from device import download

            self._download = download.Download(self._fs, self._root, self._places, record, slots.SHADOW)
        offset, length = self._download.next_piece()
        if length == 0:  # the cut came between the last piece and the next state
            self._enter(CHECK)
            return None
        self._asked = True
        return record.offer.sha8, offset, length

    def on_chunk(self, sha8: bytes, offset: int, data: "bytes | memoryview", total: int, now_s: int) -> None:
        """Takes a CHUNK; one that was not asked for is passed over. now_s: unix time in seconds, or 0."""
        wanted = self.next_fetch()
        if wanted is None or wanted[0] != bytes(sha8) or (len(data) and wanted[1] != offset):
            return
        size = self._record.offer.size
        if not len(data):
            self._end(REASON_NOT_SERVED)
        elif total != size or offset + len(data) > size:
            self._end(REASON_CUT, "%d bytes, not %d" % (total, size))
        else:
            self._guarded(self._take_piece, offset, data, now_s)

    def end_session(self, reached: bool) -> None:
        """After each session and each failed try for one; `reached`: the cloud acknowledged something."""
        self._newest_want = 0  # a version nobody signed must not lock out all later ones
        record = self._record
        if reached and self._asked and not self._moved and record.state == FETCH:
            record.stalls += 1
            if record.stalls >= _MAX_STALLS:
                self._end(REASON_NOT_SERVED, "%d sessions without a piece" % record.stalls)
            else:
                record.store()
        self._asked = self._moved = False

    def step(self, now_s: int) -> bool:
        """Verifies and tests what was fetched; True when there was something to do.

        It needs the heap of both models and of elliptic curves: best done before anything else is loaded.
        """
        record = self._record
        if record.state != CHECK or self.rests:
            return False
        if record.attempts >= _MAX_BEGINNINGS:
            self._end(REASON_SELFTEST_FAILED, "begun %d times" % record.attempts, True)
        else:
            record.attempts += 1
            record.store()
            self._guarded(self._check, now_s)
        return True

    def load(self, recheck: bool) -> detector.Detector | None:
        """The shadow to score with; None where there is none, or it can not be loaded and has ended.

        `recheck`: take the digest of what is on flash again, as after a cold start.
        """
        if self.model is None:
            return None
        try:
            return detector.load(self._places, slots.SHADOW, self.model, self._policy.schema_hash, recheck)
        except (detector.DetectorError, MemoryError) as e:
            self.give_up(e)
            return None

    def give_up(self, error: Exception) -> None:
        """The shadow failed to load or to score."""
        if _is_memory(error):
            self._end(REASON_NO_MEMORY, "while scoring")
        elif isinstance(error, detector.DetectorError):
            self._end(error.code, error.detail, error.code in (REASON_LOAD_FAILED, REASON_SELFTEST_FAILED))
        else:
            self._end(REASON_TRIAL_FAILED, repr(error), True)

    def end_wake(self) -> None:
        """Before sleep, after a wake in which the shadow ran: it does not kill the board."""
        if self._record.crashes and self._record.state == RUN:
            self._record.crashes = 0
            self._record.store()

    def unload(self) -> None:
        """Let go of the shadow's code."""
        detector.unload(self._places, slots.SHADOW)

    # What the states do

    def _consider(self) -> None:
        from device import admission

        record, active = self._record, self._places.model
        if record.offer.sha8 in record.bad:
            raise admission.ArtifactError(REASON_KNOWN_BAD)
        if active is not None and active.sha256 == record.offer.sha256:
            raise admission.ArtifactError(REASON_MISMATCH, "it is the active model")
        admission.check_offer(self._fs, self._root, self._places, record.offer, self._policy, 0, True)
        make_directory(self._fs, self._root + "/models")
        self._enter(FETCH)

    def _take_piece(self, offset: int, data: "bytes | memoryview", now_s: int) -> None:
        from device import admission

        record = self._record
        if offset == 0:
            head, _ = admission.check_head(data, record.offer, self._policy, self._places, now_s, True)
            self._download.begin(head.header.payload_at)
        self._download.write(data)
        self._moved = True
        if self._download.progress == record.offer.size:
            self._enter(CHECK)

    def _check(self, now_s: int) -> None:
        from device import admission

        places, record = self._places, self._record
        manifest = admission.check_flash(self._fs, places, slots.SHADOW, record.offer, self._policy, now_s)
        model = slots.installed(manifest, record.offer.sha256)
        gc.collect()
        if places.model is not None:
            decides = detector.load(places, places.active, places.model, self._policy.schema_hash, False)
        beside = detector.load(places, slots.SHADOW, model, self._policy.schema_hash, True)
        gc.collect()
        if gc.mem_free() < _RESERVE_BYTES:
            raise admission.ArtifactError(
                REASON_NO_MEMORY, "%d bytes of heap left, %d needed" % (gc.mem_free(), _RESERVE_BYTES)
            )
        vectors = admission.golden_vectors(self._fs, places, slots.SHADOW, manifest)
        detector.self_test(beside, vectors, manifest.tolerance)
        decides = beside = None  # noqa: F841 - both were to be there until now
        record.model = model
        self._enter(RUN)

    # Bookkeeping

    def _enter(self, state: int) -> None:
        record = self._record
        record.state = state
        record.reason = REASON_OK
        record.due = 1 if state == RUN else 0
        record.store()
        self._tidy()

    def _end(self, reason: int, detail: str = "", never_again: bool = False) -> None:
        record = self._record
        if never_again:
            record.condemn()
        record.state = ENDED
        record.reason = reason
        record.due = 1
        record.store()
        self._detail = detail
        self._download = None
        self._tidy()

    def _tidy(self) -> None:
        """Does what the state still asks for: empties the slot, makes the report."""
        record = self._record
        if not record.due and not (record.state == ENDED and record.started):
            return
        if record.state == ENDED and record.started:
            self.unload()
            self._places.vacate(slots.SHADOW)
            record.started = 0
        if record.due:
            offer = record.offer
            state = UPDATE_SHADOW if record.state == RUN else UPDATE_SHADOW_ENDED
            self._send(state, record.reason, offer.name, offer.version, offer.sha8, 0, self._detail[:64])
            record.due = 0
        record.store()

    def _guarded(self, action: object, *args: object) -> None:
        """Runs one step; what it finds wrong with the artifact, or with the board, ends the shadow."""
        from device.admission import ArtifactError

        try:
            action(*args)
        except (ArtifactError, detector.DetectorError, MemoryError) as e:
            if _is_memory(e):
                self._end(REASON_NO_MEMORY, str(e))
            else:
                self._end(e.code, e.detail, e.code in (REASON_LOAD_FAILED, REASON_SELFTEST_FAILED))
        except OSError as e:
            self._end(REASON_NO_SPACE if e.errno == _ENOSPC else REASON_FLASH, str(e))
        gc.collect()


def _is_memory(error: Exception) -> bool:
    """Whether it says that the heap is too small: detector.load() passes on what an import raised as text."""
    return isinstance(error, MemoryError) or getattr(error, "detail", "").startswith("MemoryError")
