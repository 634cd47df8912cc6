"""The queue between the socket and the batches: bounded, and fair among devices.

Three bounds, each with its drop policy:
- The broker stops at its in-flight limit, so QoS 1 messages cannot pile up here. Those it delivers again because the
  store is slow are recognized by their packet id and passed over: they are here already.
- QoS 0 messages (FETCH) are not bounded by the broker: beyond MAX_WAITING they are dropped, and boards ask again.
- A device that sends more than BURST + RATE_PER_S for long is shed: its messages are acknowledged to the broker
  unread. That loses nothing, because a board keeps its records until an ACK of ours covers them, and it keeps the
  broker's queue, which is first in first out for all devices, from filling with one device's messages.

Batches are taken round robin, one message per device and turn; the order within a device is kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from cloud.ingest.mqtt import Delivery

MAX_WAITING = 6_000
BURST = 20_000
RATE_PER_S = 500.0
_FORGET_S = 60.0  # an allowance not used for this long is full again: no need to remember it


class FairQueue:
    """Deliveries by device. Not for threads: `offer` and `take` are called from one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, burst: float = BURST) -> None:
        self._clock = clock
        self._burst = burst
        self._waiting: dict[str, deque[Delivery]] = {}
        self._allowance: dict[str, tuple[float, float]] = {}  # device -> (messages left, when)
        self._forgot = clock()
        self._held: set[int] = set()
        self.size = 0
        self.bytes = 0

    def offer(self, device: str, delivery: Delivery) -> bool:
        """Queues a delivery; False when it is shed, and the caller has to acknowledge and count it."""
        if delivery.qos and delivery.mid in self._held:
            return True
        if not self._allowed(device) or (delivery.qos == 0 and self.size >= MAX_WAITING):
            return False
        queue = self._waiting.get(device)
        if queue is None:
            queue = self._waiting[device] = deque()
        queue.append(delivery)
        if delivery.qos:
            self._held.add(delivery.mid)
        self.size += 1
        self.bytes += len(delivery.payload)
        return True

    def done(self, deliveries: Iterable[Delivery]) -> None:
        """They are being acknowledged: the broker uses their packet ids for other messages from now on."""
        self._held.difference_update(delivery.mid for delivery in deliveries if delivery.qos)

    def take(self, limit: int) -> list[tuple[str, Delivery]]:
        """Up to `limit` deliveries, every waiting device's first before any device's second."""
        taken: list[tuple[str, Delivery]] = []
        while self._waiting and len(taken) < limit:
            for device in list(self._waiting):
                queue = self._waiting[device]
                taken.append((device, queue.popleft()))
                if not queue:
                    del self._waiting[device]
                if len(taken) == limit:
                    self._turn_over(device)
                    break
        self.size -= len(taken)
        self.bytes -= sum(len(delivery.payload) for _, delivery in taken)
        return taken

    def _turn_over(self, last: str) -> None:
        """Puts the devices served in the broken-off turn behind those that were not, or they would always be first."""
        for device in list(self._waiting):
            self._waiting[device] = self._waiting.pop(device)
            if device == last:
                return

    def _allowed(self, device: str) -> bool:
        now = self._clock()
        left, since = self._allowance.get(device, (self._burst, now))
        left = min(self._burst, left + (now - since) * RATE_PER_S)
        if left < 1:
            self._allowance[device] = (left, now)
            return False
        self._allowance[device] = (left - 1, now)
        if now - self._forgot > _FORGET_S:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        self._forgot = now
        self._allowance = {
            device: (left, since)
            for device, (left, since) in self._allowance.items()
            if left + (now - since) * RATE_PER_S < self._burst
        }
