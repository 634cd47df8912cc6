"""Run by ingest.py in a process of its own: empties the broker's queue and prints how many seconds it took."""

import asyncio
import sys
import time

import aiomqtt

from cloud.broker import ingest_login
from cloud.ingest.__main__ import tune
from cloud.ingest.service import TOPICS, Ingest
from cloud.settings import Settings, load_settings
from cloud.store.engine import make_engine


async def bare(settings: Settings, count: int) -> None:
    """Counts messages: what aiomqtt costs without anything done. With 0 it leaves a subscription behind."""
    login = ingest_login(settings)
    async with aiomqtt.Client(
        login.host,
        login.port,
        username=login.user,
        password=login.password,
        identifier=login.client_id,
        clean_session=False,
    ) as client:
        if count == 0:
            await client.subscribe([(topic, 1) for topic in TOPICS])
            return
        async for _ in client.messages:
            count -= 1
            if count <= 0:
                return


async def whole(settings: Settings, count: int) -> None:
    """The real thing, until it has stored `count` messages."""
    tune()
    engine = make_engine(settings)
    ingest = Ingest(settings, engine)
    running = asyncio.create_task(ingest.run())
    while ingest.counts["messages"] < count:
        await asyncio.sleep(0.002)
    ingest.stop()
    await running
    await engine.dispose()


if __name__ == "__main__":
    began = time.perf_counter()
    asyncio.run({"bare": bare, "whole": whole}[sys.argv[1]](load_settings(), int(sys.argv[2])))
    print(time.perf_counter() - began)
