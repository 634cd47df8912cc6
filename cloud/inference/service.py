"""Answers questions: those a batch has just stored, and those that waited while nobody was there to answer.

A question is a row of `queries`, so the store is the queue: what is not in `answers` is still to be answered. The queue
in memory only makes it fast; what finds no room there, or is lost with the process, the next look at the store finds.
An answer is written before it is sent and marked when the broker has it, so that a crash sends it twice rather than
never, and a board takes the first.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud import wire_types as w
from cloud.clock import now_ms
from cloud.inference.reference import References, Unusable
from cloud.inference.tables import answers
from cloud.ingest.mqtt import Link
from cloud.models.blobs import Blobs
from cloud.store.engine import insert_new, writing
from cloud.store.tables import TELLING, devices, queries
from contract import wire

MAX_WAITING = 1_000
"""Questions in memory; the others wait in the store."""
MAX_AT_ONCE = 64
"""Questions of one transaction: a forest of the format's greatest size takes some milliseconds a window."""
FOR_EVER_MS = 24 * 3_600_000
"""How old a question without a deadline may be to be answered still."""

QuestionId = tuple[str, int, int]  # device, epoch, seq


class Inference:
    """One tier: ROUTE_CLOUD, or ROUTE_FOG on a broker near the boards."""

    def __init__(self, engine: AsyncEngine, blobs: Blobs, tier: int, counts: Counter[str]) -> None:
        self._engine = engine
        self._references = References(blobs)
        self._tier = tier
        self._counts = counts
        self._waiting: dict[QuestionId, None] = {}
        self._left_out = False  # questions found no room and wait in the store
        self._asked = asyncio.Event()

    def ask(self, questions: Sequence[QuestionId]) -> None:
        """Takes note of questions that are stored; never waits."""
        for question in questions:
            if len(self._waiting) < MAX_WAITING:
                self._waiting[question] = None
            else:
                self._left_out = True
        if questions:
            self._asked.set()

    async def serve(self, link: Link, ended: asyncio.Event) -> None:
        """Answers until `ended` is set, after a look for what was left. Raises LinkLost and what the store raises."""
        await self._look()
        await self._resend(link)
        while not ended.is_set():
            if not self._waiting:
                self._asked.clear()
                waits = [asyncio.ensure_future(event.wait()) for event in (self._asked, ended)]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                continue
            batch = list(self._waiting)[:MAX_AT_ONCE]
            await self._send(link, await self._decide(batch))
            for question in batch:
                self._waiting.pop(question, None)
            if not self._waiting and self._left_out:
                await self._look()

    async def _look(self) -> None:
        """Takes note of the questions in the store that have no answer and may still want one, the newest first."""
        query = (
            sa.select(queries.c.device, queries.c.epoch, queries.c.seq)
            .join(devices, devices.c.device == queries.c.device)
            .outerjoin(answers, _same_question())
            .where(
                answers.c.device.is_(None),
                queries.c.received_ms > now_ms() - FOR_EVER_MS,
                queries.c.reason.not_in(TELLING),
            )
            .order_by(queries.c.received_ms.desc())
            .limit(MAX_WAITING + 1)
        )
        self._left_out = False
        async with self._engine.connect() as connection:
            self.ask([(row.device, row.epoch, row.seq) for row in await connection.execute(query)])

    async def _decide(self, batch: Sequence[QuestionId]) -> list[dict[str, Any]]:
        """Writes the answers of a batch and returns those that are to be sent."""
        wanted = sa.tuple_(queries.c.device, queries.c.epoch, queries.c.seq).in_(batch)
        query = sa.select(queries, devices.c.schema_hash).join(devices, devices.c.device == queries.c.device)
        known = sa.select(answers.c.device).where(_same_question()).exists()
        async with self._engine.connect() as connection:  # to score and to read a blob takes time: nobody waits for it
            rows = (await connection.execute(query.where(wanted, ~known))).mappings().all()
            made = [await self._answer(connection, row) for row in rows]
        if made:
            async with writing(self._engine).begin() as connection:
                await insert_new(connection, answers, made)
        for answer in made:
            self._counts[f"answers_{wire.VERDICT_NAMES[answer['verdict']]}"] += 1
        return [answer for answer in made if answer["why"] != _LATE]

    async def _answer(self, connection: AsyncConnection, question: sa.RowMapping) -> dict[str, Any]:
        """The row that answers a question."""
        clock_ms = now_ms()
        answer: dict[str, Any] = {name: question[name] for name in ("device", "epoch", "seq")}
        answer |= {"tier": self._tier, "score": 0.0, "name": None, "version": None, "sent_ms": None}
        verdict, why = wire.VERDICT_UNKNOWN, ""
        if 0 < question["deadline_ms"] < clock_ms - question["received_ms"]:
            why = _LATE
        else:
            try:
                reference = await self._references.of_schema(connection, question["schema_hash"])
                if reference.sha8.hex() == question["model_sha8"]:
                    raise Unusable(f"{reference.name} {reference.version} is the model that asks")
                features = struct.unpack(f"<{len(question['features']) // 4}i", question["features"])
                if len(features) != reference.scorer.n_features:
                    raise Unusable(f"{len(features)} features came, not {reference.scorer.n_features}")
            except Unusable as error:
                why = str(error)
            else:
                answer["name"], answer["version"] = reference.name, reference.version
                answer["score"], anomalous = reference.scorer.score(features)
                verdict = wire.VERDICT_ANOMALY if anomalous else wire.VERDICT_NORMAL
                await asyncio.sleep(0)  # acknowledgements go on between two windows
        return answer | {"verdict": verdict, "why": why, "answered_ms": clock_ms}

    async def _resend(self, link: Link) -> None:
        """Sends what a process that died had written and not handed over."""
        query = sa.select(answers).where(
            answers.c.sent_ms.is_(None), answers.c.why != _LATE, answers.c.answered_ms > now_ms() - FOR_EVER_MS
        )
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query.limit(MAX_WAITING))).mappings().all()
        await self._send(link, [dict(row) for row in rows])

    async def _send(self, link: Link, made: Sequence[dict[str, Any]]) -> None:
        if not made:
            return
        await asyncio.gather(*(link.publish(*_message(answer), retain=False) for answer in made))
        sent = [
            {"b_device": answer["device"], "b_epoch": answer["epoch"], "b_seq": answer["seq"], "b_ms": now_ms()}
            for answer in made
        ]
        async with writing(self._engine).begin() as connection:
            await connection.execute(_SENT, sent)


_LATE = "its deadline had passed"

_SENT = (
    sa.update(answers)
    .where(
        answers.c.device == sa.bindparam("b_device"),
        answers.c.epoch == sa.bindparam("b_epoch"),
        answers.c.seq == sa.bindparam("b_seq"),
    )
    .values(sent_ms=sa.bindparam("b_ms"))
)


def _message(answer: dict[str, Any]) -> tuple[str, bytes]:
    """Topic and frame of an answer."""
    said = w.Answer(answer["epoch"], answer["seq"], answer["verdict"], answer["score"], answer["tier"])
    return wire.topic(answer["device"], wire.KIND_DO), w.encode(said)


def _same_question() -> sa.ColumnElement[bool]:
    return (
        (answers.c.device == queries.c.device) & (answers.c.epoch == queries.c.epoch) & (answers.c.seq == queries.c.seq)
    )
