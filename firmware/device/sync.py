"""One session with the cloud: who says what, and when it is over.

    we                                              broker and cloud
    CONNECT, SUBSCRIBE, birth
    HELLO when it is due                            CONNACK, SUBACK, retained ACK and WANT, queued DO
    records, most important first                   PUBACK each
                                                    ACK, after they are committed
                                                    ANSWER, where a QUERY asks for one
an EVENT that the answer makes                      PUBACK, ACK
    goodbye, DISCONNECT

All of ours leaves in one flight, without waiting for answers in between, when the last session ended well. Otherwise
the retained ACK comes first, since it may free what would be sent again, or, in an epoch the cloud has never answered,
say that its number is taken. A session has worked when an ACK covers everything it sent. What an earlier session sent
and this one sends again has the same identity and the same bytes, so it is stored once.
"""

import gc
import time

from micropython import const

from contract import frames, policy, routing
from contract.downlink import parse_downlink
from contract.wire import (
    ACK,
    ACK_NEED_KEY,
    ACK_SAY_HELLO,
    ANSWER,
    BAD_CODE,
    BAD_RANGE,
    CHUNK,
    DO,
    FAULT_DOWNLINK,
    FAULT_TIMEOUT,
    KIND_ACK,
    KIND_DO,
    KIND_WANT,
    MAX_EPOCH,
    MAX_U32,
    QUERY,
    READINGS,
    REASON_OK,
    REASON_OLD_STATEMENT,
    REASON_RETIRED_KEY,
    STREAMS,
    UPDATE_DOWNLOAD,
    UPDATE_OFFER,
    WANT,
    WireError,
)
from device import breaker, verdict
from device.errors import LinkError, fault_of
from device.link import Link

_DOWNLOAD_MS = const(45000)  # of a whole session that downloads; below the 60 s of the watchdog
_FIRST_ACK_MS = const(2500)  # the retained ACK comes with the SUBACK; a new epoch's after one commit
_ACK_MS = const(5000)  # the cloud commits in batches of a fraction of a second; silent for so long, it is down
_QUEUED_MS = const(500)
_CHUNK_MS = const(3000)
_CHUNK_TRIES = const(3)
_MAX_HELLOS = const(2)
_POLL_MS = const(1000)
_DAY_MS = const(86400000)
_HEALTH_MS = const(3600000)
_RANK = STREAMS.index(READINGS)
_QUERY_RANK = STREAMS.index(QUERY)
_EXPECTED = {KIND_ACK: (ACK,), KIND_WANT: (WANT,), KIND_DO: (CHUNK, ANSWER, DO)}


def sync(parts: object, link: Link) -> None:
    """Hold one session and take account of how it went: breaker, schedule, counters. Raises nothing of the link.

    link: a Link that was not used yet.
    """
    state = parts.state
    breaker.begin(parts)
    # When the board means to come back changes with its band and its settings; unsaid, it would be taken for lost.
    if parts.board.now_ms() - state.health_ms >= _HEALTH_MS or state.told_band != state.battery_band:
        shadow = _shadow_model(parts)
        parts.health.record(
            parts.journal, parts.outbox.dropped, _next_contact_ms(parts), shadow.sha8 if shadow else None
        )
    parts.journal.keep()
    link.radio_cache = state.radio_cache
    reached = _talk(parts, link, state.contact_ms == 0 or state.breaker_failures > 0)
    if not reached and link.was_closed:
        # The broker took us and went away, as one does that restarts or hands over to another of its cluster. What it
        # had not confirmed goes again as a duplicate.
        reached = _talk(parts, link, True)
    state.radio_cache = link.radio_cache
    parts.radio_ms = link.radio_ms
    parts.health.session(link)
    parts.health.count(FAULT_DOWNLINK, link.refused)
    breaker.end(parts, reached)
    _note_link(parts, reached)
    parts.updater.end_session(reached)
    if parts.shadow:
        parts.shadow.end_session(reached)


def _talk(parts: object, link: Link, look_first: bool) -> bool:
    """One connection, from radio up to radio down; True when the dialogue came to its end."""
    try:
        _Talk(parts, link).run(look_first)
        parts.state.link_rssi = parts.board.rssi()
    except Exception as error:  # noqa: BLE001 - whatever it is, the radio goes off and the session counts as failed
        parts.health.fault(error)
        link.close(fault_of(error))
        return False
    link.close()
    return True


class _Talk:
    """One session's dialogue."""

    def __init__(self, parts: object, link: Link) -> None:
        self._parts = parts
        self._link = link
        self._state = parts.state
        self._sent = {}  # (epoch, rank): one past the highest sequence number sent
        self._acked = {}  # epoch: the newest ACK's entry
        self._hello_due = self._state.hello_ms == 0 or parts.board.now_ms() - self._state.hello_ms > _DAY_MS
        self._hello_ms = -1  # t_ms of the HELLO that was said and not answered by an ACK yet
        self._hellos = 0
        self._need_key = False
        self._chunk = False
        self._answered = False
        self._commanded = False
        link.on_message = self._take

    def run(self, look_first: bool) -> None:
        """The whole dialogue; look_first: at the retained ACK, before any record leaves. Raises LinkError."""
        parts, state, link = self._parts, self._state, self._link
        link.open(_DOWNLOAD_MS if self._waits() == REASON_OK else parts.path.longest_ms)
        if self._hello_due:
            self._say_hello()
        if look_first and not self._listen(self._heard, _FIRST_ACK_MS) and state.contact_ms == 0:
            raise LinkError(FAULT_TIMEOUT, "no ACK in a new epoch")
        self._send_records()
        link.settle()
        if not self._sent:
            # Nothing of ours holds the session open, so what is retained for us has to.
            self._listen(self._heard, _FIRST_ACK_MS)
        if not self._listen(self._covered, _ACK_MS):
            raise LinkError(FAULT_TIMEOUT, "no ACK for what was sent")
        self._hear_answer()
        if parts.config["upload"] != policy.UPLOAD_ALL:
            # A command can change what is recorded. What the broker kept for us comes a moment after the CONNACK, and
            # so short a session may be over by then.
            self._listen(lambda: self._commanded, _QUEUED_MS)
        self._download()
        self._listen(lambda: False, parts.path.linger_ms)

    def _hear_answer(self) -> None:
        """Listen for what is said of the question this session asked, and send what the verdict leads to."""
        parts, state = self._parts, self._state
        if state.asked:
            wait_ms = routing.answer_wait_ms(state.asked_until_s * 1000, parts.journal.now_ms())
            if self._sent.get((state.epoch, _QUERY_RANK), 0) < state.asked:
                wait_ms = min(wait_ms, _QUEUED_MS)  # asked earlier: what the broker kept for us comes first of all
            self._listen(lambda: self._answered, wait_ms)
        verdict.settle(parts)
        if not parts.journal.waiting:
            return
        parts.journal.keep()
        self._send_records()
        self._link.settle()
        if not self._listen(self._covered, _ACK_MS):
            raise LinkError(FAULT_TIMEOUT, "no ACK for what the answer led to")

    def _heard(self) -> bool:
        """An ACK came in this session."""
        return bool(self._acked)

    def _covered(self) -> bool:
        """The cloud has said that it has all we sent, HELLO included."""
        if self._hello_ms >= 0 or self._hello_due or self._need_key:
            return False
        for (epoch, rank), end in self._sent.items():
            entry = self._acked.get(epoch)
            if entry is None or entry[1 + rank] < end:
                return False
        return True

    def _listen(self, done: object, wait_ms: int) -> bool:
        """Take in messages until done(), for wait_ms at most; answers what the cloud asks for meanwhile."""
        end = time.ticks_add(time.ticks_ms(), wait_ms)
        while not done():
            left_ms = min(time.ticks_diff(end, time.ticks_ms()), self._link.left_ms())
            if left_ms <= 0:
                return False
            self._link.poll(min(left_ms, _POLL_MS))
            self._parts.board.watchdog_feed()
            if self._hello_due:
                self._say_hello()
            if self._need_key:
                self._need_key = False
                self._send_records()
        return True

    def _say_hello(self) -> None:
        """Tell what this board is and holds; once, and once more when the first answer asks for it."""
        parts, state, board = self._parts, self._state, self._parts.board
        self._hello_due = False
        if self._hellos == _MAX_HELLOS:
            return
        self._hellos += 1
        model = parts.updater.model
        shadow = _shadow_model(parts)
        gc.collect()
        t_ms = parts.journal.now_ms()
        frame = frames.hello(
            parts.journal.buffer,
            state.epoch,
            t_ms,
            self._floors(),
            parts.config.version,
            (model.name, model.version, model.sha8) if model else None,
            parts.firmware,
            board.arch or "none",
            board.abi,
            parts.trust.formats,
            parts.features.schema_hash,
            parts.config.kind,
            min(board.free_flash(), MAX_U32),
            gc.mem_free(),
            parts.cause,
            board.battery_mv(),
            parts.config.reported(),
            parts.trust.keys.key_ids(parts.now_s()),
            parts.updater.sequence,
            parts.config.local_version,
            (shadow.name, shadow.version, shadow.sha8) if shadow else None,
        )
        self._link.send(frame, None)
        self._hello_ms = t_ms

    def _send_records(self) -> None:
        """Send what is on flash, then what is in RTC memory, as much as battery and link allow."""
        parts, state = self._parts, self._state
        left = policy.frames_per_session(state.battery_band, state.link_quality)
        for stream, epoch, seq, count, _, frame in parts.outbox.pending(parts.journal.now_ms(), state.epoch, left):
            self._send(stream, epoch, seq, count, frame)
            left -= 1
        sealed = parts.journal.sealed() if left else []
        state.store()  # the boundaries of frames that now leave
        for seq, _, rows, frame in sealed[:left]:
            self._send(READINGS, state.epoch, seq, rows, frame)
        parts.more = left == 0 or left < len(sealed)

    def _send(self, stream: int, epoch: int, seq: int, count: int, frame: bytes) -> None:
        payload = self._parts.journal.as_difference(frame) if stream == READINGS else frame
        self._link.send(payload, (stream, epoch, seq))
        place = (epoch, STREAMS.index(stream))
        self._sent[place] = max(self._sent.get(place, 0), seq + count)
        self._parts.board.watchdog_feed()

    def _take(self, kind: str, payload: memoryview, retained: bool) -> None:
        """Takes one message from the cloud. Raises WireError for one that breaks the contract."""
        message = parse_downlink(payload)
        if message[0] not in _EXPECTED[kind]:
            raise WireError(BAD_CODE, "%d on %s" % (message[0], kind))
        try:
            _TAKERS[message[0]](self, retained, *message[1:])
        except OSError as error:  # flash refuses what it asks for: it is not done, and what the board holds still goes
            self._parts.health.fault(error)

    def _take_ack(self, retained: bool, cloud_ms: int, acks: list, flags: int, heard_ms: int | None) -> None:
        state = self._state
        newest = max([entry[0] for entry in acks]) if acks else 0
        if newest > MAX_EPOCH:
            raise WireError(BAD_RANGE, "epoch %d" % newest)
        if newest > state.epoch or self._knows_more_than_us(acks):
            # Flash and RTC memory were wiped: this epoch's number has been used before.
            state.raise_epoch(max(newest, state.epoch))
            self._sent = {}
            self._hello_due = True
            return
        for entry in acks:
            self._acked[entry[0]] = entry
        self._parts.outbox.ack(acks)
        if state.epoch in self._acked:
            self._trim(self._acked[state.epoch][1 + _RANK])
        state.contact_ms = self._parts.board.now_ms()
        if flags & ACK_NEED_KEY:
            state.base_epoch = 0
            self._need_key = not retained
        if retained:
            return
        if self._hello_ms >= 0 and (heard_ms is None or heard_ms >= self._hello_ms):
            self._hello_ms = -1
            state.hello_ms = state.contact_ms
        state.cloud_offset_ms = cloud_ms - self._parts.journal.now_ms()
        if flags & ACK_SAY_HELLO or self._waits_for_what_is_gone():
            self._hello_due = True

    def _knows_more_than_us(self, acks: list) -> bool:
        state = self._state
        for entry in acks:
            if entry[0] == state.epoch:
                return any(entry[1 + rank] > state.next_seq[rank] for rank in range(len(STREAMS)))
        return False

    def _waits_for_what_is_gone(self) -> bool:
        """The cloud expects records that this board no longer holds; a HELLO's floors tell it."""
        if self._covered():
            return False
        for epoch, *lowest in self._floors():
            entry = self._acked.get(epoch)
            if entry and any(entry[1 + rank] < lowest[rank] for rank in range(len(STREAMS))):
                return True
        return False

    def _floors(self) -> list:
        state = self._state
        return self._parts.outbox.floors(state.epoch, list(state.next_seq[:_RANK]) + [state.ring_seq])

    def _trim(self, next_seq: int) -> None:
        """Forget the readings below next_seq, and remember the last of them as the base of the next frame."""
        state = self._state
        if next_seq == state.next_seq[_RANK] and state.ring_seq < next_seq:
            state.base_epoch = state.epoch
            state.base_seq = next_seq - 1
            state.base_values[:] = state.last_values
        state.trim(next_seq)

    def _take_want(
        self,
        _retained: bool,
        version: int,
        settings: dict,
        model: tuple | None,
        local_version: int,
        statements: list,
        shadow: tuple | None,
    ) -> None:
        parts = self._parts
        for said in statements:
            self._take_statement(said)
        if parts.config.apply(version, settings, local_version):
            self._state.config_version = version
            self._state.told_band = 255
            self._state.hello_ms = 0  # should this session end before the cloud has heard of it
            self._hello_due = True
        if shadow is not None or parts.shadow:
            from device.shadow_wake import take_want

            take_want(parts, version, shadow)  # first: the model may need the room of a shadow that goes
        parts.updater.on_want(version, model)

    def _take_statement(self, said: memoryview) -> None:
        """What a publisher said of its keys; the cloud hears what came of it in the next HELLO."""
        parts = self._parts
        reason = parts.updater.on_statement(said, parts.now_s())
        if reason == REASON_OK:
            self._state.hello_ms = 0
            self._hello_due = True
        elif reason not in (REASON_OLD_STATEMENT, REASON_RETIRED_KEY):  # what was heard before is retained for a while
            parts.health.count(FAULT_DOWNLINK)

    def _take_chunk(self, _retained: bool, sha8: bytes, offset: int, data: memoryview, total: int) -> None:
        for keeper in (self._parts.updater, self._parts.shadow):
            if keeper:
                keeper.on_chunk(sha8, offset, data, total, self._parts.now_s())
        self._chunk = True

    def _take_answer(self, _retained: bool, epoch: int, seq: int, said: int, score: float, tier: int) -> None:
        self._answered = verdict.take_answer(self._parts, epoch, seq, said, score, tier) or self._answered

    def _take_do(self, _retained: bool, number: int, verb: str, args: list) -> None:
        from device.commands import obey  # they are rare

        self._commanded = True
        obey(self._parts, number, verb, args)

    def _waits(self) -> int | None:
        """What a download waits for, None when there is none."""
        parts = self._parts
        if parts.updater.state != UPDATE_DOWNLOAD and not (parts.shadow and parts.shadow.fetching):
            return None
        from device import update_time

        return update_time.reason(parts)

    def _next_fetch(self) -> tuple | None:
        """The piece to ask for now, of the wanted model before the shadow model."""
        parts = self._parts
        waits = self._waits()
        if parts.updater.state == UPDATE_DOWNLOAD:
            return None if parts.updater.postpone(waits) else parts.updater.next_fetch()
        return parts.shadow.next_fetch() if waits == REASON_OK else None

    def _download(self) -> None:
        """Fetch the wanted model piece by piece while the session lasts, then the shadow model."""
        parts = self._parts
        if parts.updater.state == UPDATE_OFFER:
            parts.updater.step(parts.now_s())
        misses = 0
        while misses < _CHUNK_TRIES:
            wanted = self._next_fetch()
            if wanted is None:
                return
            self._chunk = False
            self._link.send_once(frames.fetch(parts.journal.buffer, *wanted))
            if not self._listen(lambda: self._chunk, _CHUNK_MS):
                misses += 1


_TAKERS = {
    ACK: _Talk._take_ack,
    WANT: _Talk._take_want,
    CHUNK: _Talk._take_chunk,
    ANSWER: _Talk._take_answer,
    DO: _Talk._take_do,
}


def _shadow_model(parts: object) -> object:
    """slots.Installed of the model that scores beside the active one, or None."""
    return parts.shadow.model if parts.shadow else None


def _note_link(parts: object, worked: bool) -> None:
    """Take account of the link in RTC memory; a session that worked also sets when the next one is due."""
    state = parts.state
    state.link_quality += (255 - state.link_quality) // 8 if worked else -(state.link_quality // 8)
    if worked:
        state.link_session_ms += (min(parts.radio_ms, 0xFFFF) - state.link_session_ms) // 4
        state.next_sync_ms = parts.board.now_ms() if parts.more else _next_sync_ms(parts, parts.board.random16())


def _next_sync_ms(parts: object, jitter: int) -> int:
    return policy.next_sync_ms(parts.board.now_ms(), parts.config["sync_interval_ms"], parts.state.battery_band, jitter)


def _next_contact_ms(parts: object) -> int:
    """By when the next session begins if all is well: the latest that its schedule allows, at the wake after it."""
    latest_ms = _next_sync_ms(parts, policy.JITTER_RANGE - 1) - parts.board.now_ms()
    return latest_ms + parts.config["interval_ms"]
