"""Run by ingest.py in a process of its own: empties the broker's queue and prints messages per second.

The clock starts after WARM_UP messages: connecting, and compiling each SQL statement once, is not what is compared.
"""

import asyncio
import sys
import time

import aiomqtt

from cloud.broker import ingest_login
from cloud.ingest.__main__ import run, tune
from cloud.ingest.service import TOPICS, Ingest
from cloud.settings import Settings, load_settings
from cloud.store.engine import make_engine

WARM_UP = 1_000


async def bare(settings: Settings, count: int) -> float:
    """Counts messages: what aiomqtt costs without anything done. With 0 it leaves a subscription behind."""
    login = ingest_login(settings)
    received, began = 0, time.perf_counter()
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
            return 0.0
        async for _ in client.messages:
            received += 1
            if received == WARM_UP:
                began = time.perf_counter()
            if received == count:
                break
    return (count - WARM_UP) / (time.perf_counter() - began)


async def whole(settings: Settings, count: int) -> float:
    """The real thing, until it has stored `count` messages."""
    tune()
    engine = make_engine(settings)
    ingest = Ingest(settings, engine)
    running = asyncio.create_task(ingest.run())
    while (warm := ingest.counts["messages"]) < WARM_UP:
        await asyncio.sleep(0.001)
    began = time.perf_counter()
    while ingest.counts["messages"] < count:
        await asyncio.sleep(0.001)
    per_s = (count - warm) / (time.perf_counter() - began)
    ingest.stop()
    await running
    await engine.dispose()
    return per_s


if __name__ == "__main__":
    print(run({"bare": bare, "whole": whole}[sys.argv[1]](load_settings(), int(sys.argv[2]))))
