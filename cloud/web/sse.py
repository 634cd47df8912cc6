"""Live updates: one poller per watched page and process, however many browsers watch it.

A page is a set of named parts. While anyone watches it, its poller asks the store every half second for a stamp, which
is cheap, and renders only when the stamp moved, or after five seconds, because boards also change by staying silent. It
works for a fifth of the time at most: a page about ten thousand boards takes most of a second, and comes less often.
Of what it rendered, only parts whose HTML changed are sent. A slow reader gets the newest state of each part and never
a backlog; a reader that lost its connection gets everything again when it comes back.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping

from litestar.response.sse import ServerSentEventMessage
from sqlalchemy.exc import SQLAlchemyError

from cloud.errors import EdgewiseError, Unavailable

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RENDER_SECONDS = 5.0
_IDLE_SHARE = 4  # times as long as it took
HEARTBEAT_SECONDS = 15.0
# A proxy or a sleeping laptop can hold a dead connection open: after this long the browser is sent to reconnect.
LIFETIME_SECONDS = 15 * 60.0
MAX_WATCHERS = 100
_RETRY_MS = 2000

Parts = Mapping[str, str]
Stamp = Callable[[], Awaitable[Hashable]]
Render = Callable[[], Awaitable[Parts]]


class Watcher:
    """One browser: the newest state of every part it has not been sent yet."""

    def __init__(self) -> None:
        self.due: dict[str, str] = {}
        self.wake = asyncio.Event()

    def offer(self, parts: Parts) -> None:
        """Replaces what is due; never grows beyond the parts of the page."""
        self.due.update(parts)
        self.wake.set()


class Page:
    """The poller of one page, alive while it has watchers."""

    def __init__(self, name: str, stamp: Stamp, render: Render) -> None:
        self.name = name
        self.watchers: set[Watcher] = set()
        self.sent: dict[str, str] = {}
        self._poller: asyncio.Task[None] | None = None
        self._stamp = stamp
        self._render = render

    def start(self) -> None:
        """Begins to poll, unless it does already."""
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name=f"page {self.name}")

    def stop(self) -> None:
        """Nobody watches any more."""
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None

    async def _poll(self) -> None:
        """Runs until cancelled. A store that does not answer delays the page and does not end it."""
        clock = asyncio.get_running_loop().time
        seen: Hashable = None
        rendered_at = clock() - RENDER_SECONDS
        while True:
            began = clock()
            try:
                stamp = await self._stamp()
                if stamp != seen or clock() - rendered_at >= RENDER_SECONDS:
                    self._publish(await self._render())
                    seen, rendered_at = stamp, clock()
            except (SQLAlchemyError, EdgewiseError, OSError) as error:
                _log.warning("page %s is not refreshed: %s", self.name, error)
            except Exception:  # noqa: BLE001 - whoever watches would wait for ever
                _log.exception("page %s is not refreshed", self.name)
            await asyncio.sleep(max(POLL_SECONDS, _IDLE_SHARE * (clock() - began)))

    def _publish(self, parts: Parts) -> None:
        changed = {name: html for name, html in parts.items() if self.sent.get(name) != html}
        self.sent.update(changed)
        if changed:
            for watcher in self.watchers:
                watcher.offer(changed)


class Live:
    """All pages somebody watches."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}
        self._watchers = 0
        self._closing = asyncio.Event()

    def admit(self) -> None:
        """Raises Unavailable when no further browser can be served."""
        if self._watchers >= MAX_WATCHERS:
            raise Unavailable(f"{MAX_WATCHERS} pages are watched already", "close one, or reload in a minute")

    async def watch(self, name: str, stamp: Stamp, render: Render) -> AsyncGenerator[ServerSentEventMessage, None]:
        """The events of one browser, the whole page first, until it goes, its time is up or the server stops."""
        page = self._pages.setdefault(name, Page(name, stamp, render))
        watcher = Watcher()
        watcher.offer(page.sent)
        page.watchers.add(watcher)
        self._watchers += 1
        page.start()
        try:
            yield ServerSentEventMessage(data=None, comment="here", retry=_RETRY_MS)
            ends_at = asyncio.get_running_loop().time() + LIFETIME_SECONDS
            while not self._closing.is_set() and asyncio.get_running_loop().time() < ends_at:
                if not await _within(watcher.wake, HEARTBEAT_SECONDS):
                    yield ServerSentEventMessage(data=None, comment="still here")
                    continue
                watcher.wake.clear()
                due, watcher.due = watcher.due, {}
                for part, html in due.items():
                    yield ServerSentEventMessage(data=html, event=part)
        finally:
            self._watchers -= 1
            page.watchers.discard(watcher)
            if not page.watchers:
                page.stop()
                self._pages.pop(name, None)

    def close(self) -> None:
        """Ends every stream, so that the server can stop without waiting for browsers."""
        self._closing.set()
        for page in self._pages.values():
            for watcher in page.watchers:
                watcher.wake.set()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
