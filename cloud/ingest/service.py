"""The ingest process: broker -> fair queue -> batch -> transaction -> acknowledgements.

A message is acknowledged to the broker after the commit of the transaction that stored it or set it aside, and to its
board by the ACK that follows. Until then the broker keeps it, and the board keeps its record. So a batch that is lost
with the process, the link or the database comes again, and the writer stores each record once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.broker import ingest_login
from cloud.clock import now_ms
from cloud.ingest.mqtt import LinkLost, connect
from cloud.ingest.session import Parts, Session, wait_for
from cloud.models.blobs import Blobs
from cloud.settings import TIERS, Settings
from cloud.store.engine import cause_of, insert, writing
from cloud.store.tables import services
from contract import wire

log = logging.getLogger("ingest")

BEAT_S = 1.0
TOPICS = (f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}", f"{wire.TOPIC_PREFIX}+/{wire.KIND_STATE}")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Ingest:
    """One ingest process. `run` works until `stop` is called."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._parts = Parts.on(engine, Blobs(settings.blobs_url), TIERS[settings.tier])
        self._started_ms = now_ms()
        self._stopping = asyncio.Event()
        self._connected = False

    @property
    def counts(self) -> Counter[str]:
        """What happened since the start."""
        return self._parts.counts

    def stop(self) -> None:
        """Ends `run` after the batch at hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Connects, works, and connects again when the link is lost; the heartbeat goes on meanwhile."""
        beating = asyncio.create_task(self._beat_until_stopped())
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                try:
                    await self._session()
                except LinkLost as lost:
                    if self._connected:
                        pause_s = _FIRST_PAUSE_S
                    log.warning("link lost reason=%r retry_in_s=%.2f", lost.reason, pause_s)
                    self._connected = False
                    self.counts["links_lost"] += 1
                    await wait_for(self._stopping, pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._connected = False
            self._stopping.set()
            await beating

    async def _session(self) -> None:
        session = Session(self._parts)
        async with connect(ingest_login(self._settings), session.on_message) as link:
            await link.subscribe(TOPICS)
            self._connected = True
            await self._beat()
            log.info("connected host=%s port=%d", self._settings.mqtt_host, self._settings.mqtt_port)
            await session.work(link, self._stopping)

    async def _beat_until_stopped(self) -> None:
        while not self._stopping.is_set():
            await self._beat()
            await wait_for(self._stopping, BEAT_S)
        await self._beat()

    async def _beat(self) -> None:
        """Says in the store how it goes; a store that does not take it is told by the age of the last one."""
        row = {
            "service": "ingest",
            "pid": os.getpid(),
            "started_ms": self._started_ms,
            "beat_ms": now_ms(),
            "ready": self._connected and self._parts.storing,
            "counters": dict(self.counts),
        }
        try:
            async with writing(self._engine).begin() as connection:
                statement = insert(services, connection.dialect).values(row)
                await connection.execute(statement.on_conflict_do_update(index_elements=["service"], set_=row))
        except (SQLAlchemyError, OSError) as error:
            log.warning("heartbeat failed cause=%r", cause_of(error))
