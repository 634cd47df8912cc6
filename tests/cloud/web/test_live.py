"""The poller behind live pages: cheap when nothing changes, bounded when readers are slow, gone when nobody reads."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from cloud.errors import Unavailable
from cloud.web import sse
from cloud.web.sse import Live


class Store:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.stamp_value = 0
        self.parts = {"a": "1", "b": "1"}
        self.stamps = 0
        self.renders = 0
        self.broken = False

    async def stamp(self) -> int:
        self.stamps += 1
        if self.broken:
            raise OSError("disk gone")
        return self.stamp_value

    async def render(self) -> dict[str, str]:
        self.renders += 1
        return dict(self.parts)

    def change(self, **parts: str) -> None:
        self.parts |= parts
        self.stamp_value += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times faster than in the field."""
    for name in ("POLL_SECONDS", "HEARTBEAT_SECONDS"):
        monkeypatch.setattr(sse, name, getattr(sse, name) / 20)


async def parts_of(stream: AsyncGenerator[Any, None], count: int) -> list[tuple[str, str]]:
    """The next `count` parts."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            message = await anext(stream)
            if message.event:
                found.append((message.event, message.data))
    return found


def test_nothing_is_rendered_while_nothing_changes() -> None:
    async def run() -> Store:
        store, live = Store(), Live()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        await asyncio.sleep(0.6)
        await stream.aclose()
        return store

    store = asyncio.run(run())
    assert store.stamps > 10
    assert store.renders == 1


def test_only_the_part_that_changed_is_sent() -> None:
    async def run() -> list[tuple[str, str]]:
        store, live = Store(), Live()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        store.change(b="2")
        changed = await parts_of(stream, 1)
        await stream.aclose()
        return changed

    assert asyncio.run(run()) == [("b", "2")]


def test_many_readers_of_a_page_cost_one_poller_and_none_when_they_left() -> None:
    async def run() -> tuple[Store, int, int]:
        store, live = Store(), Live()
        streams = [live.watch("page", store.stamp, store.render) for _ in range(20)]
        for stream in streams:
            assert await parts_of(stream, 2) == [("a", "1"), ("b", "1")]
        pollers = sum(task.get_name() == "page page" for task in asyncio.all_tasks())
        for stream in streams:
            await stream.aclose()
        await asyncio.sleep(0.05)
        return store, pollers, sum(task.get_name() == "page page" for task in asyncio.all_tasks())

    store, during, after = asyncio.run(run())
    assert (during, after) == (1, 0)
    assert store.renders == 1


def test_a_slow_reader_gets_the_newest_state_once() -> None:
    async def run() -> list[tuple[str, str]]:
        store, live = Store(), Live()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        for number in range(5):
            store.change(a=f"change {number}")
            await asyncio.sleep(0.06)
        found = await parts_of(stream, 1)
        await stream.aclose()
        return found

    assert asyncio.run(run()) == [("a", "change 4")]


def test_a_store_that_fails_for_a_while_does_not_end_the_page() -> None:
    async def run() -> list[tuple[str, str]]:
        store, live = Store(), Live()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        store.broken = True
        await asyncio.sleep(0.2)
        store.broken = False
        store.change(a="back")
        found = await parts_of(stream, 1)
        await stream.aclose()
        return found

    assert asyncio.run(run()) == [("a", "back")]


def test_closing_ends_every_stream_and_a_full_house_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_WATCHERS", 1)

    async def run() -> bool:
        store, live = Store(), Live()
        live.admit()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        with pytest.raises(Unavailable):
            live.admit()
        live.close()
        async with asyncio.timeout(2):
            async for _ in stream:
                pass
        live.admit()
        return True

    assert asyncio.run(run())


def test_silence_is_filled_with_heartbeats() -> None:
    async def run() -> list[Any]:
        store, live = Store(), Live()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        async with asyncio.timeout(3):
            message = await anext(stream)
        await stream.aclose()
        return [message.comment, message.data]

    assert asyncio.run(run()) == ["still here", None]


def test_a_page_that_takes_long_takes_a_fifth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.001)

    class Large(Store):
        async def render(self) -> dict[str, str]:
            await asyncio.sleep(0.05)
            self.change()
            return await super().render()

    async def run() -> Store:
        store, live = Large(), Live()
        stream = live.watch("page", store.stamp, store.render)
        await parts_of(stream, 2)
        await asyncio.sleep(0.5)
        await stream.aclose()
        return store

    assert asyncio.run(run()).renders <= 3


def test_a_fault_in_one_round_does_not_end_a_page() -> None:
    class Faulty(Store):
        async def render(self) -> dict[str, str]:
            found = await super().render()
            if self.renders == 1:
                raise KeyError("a fault")
            return found

    async def run() -> list[tuple[str, str]]:
        store, live = Faulty(), Live()
        stream = live.watch("page", store.stamp, store.render)
        found = await parts_of(stream, 2)
        await stream.aclose()
        return found

    assert asyncio.run(run()) == [("a", "1"), ("b", "1")]
