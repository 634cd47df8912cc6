"""What surrounds a simulated board in its virtual time: battery and air. Pure, and repeatable by seed."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from tools.scenario.schema import Battery, Fault, Group, Radio, Scenario

UJ_PER_MAH = 3_600_000 * 3.7  # microjoule in a mAh of a lithium cell at its nominal voltage; the ledger's 3.3 V come
# from a regulator, and what that wastes is not counted

# How far a session gets
REACH_CLOUD = 0
REACH_NO_WIFI = 1
REACH_REFUSED = 2  # the broker is down
REACH_BREAKS = 3
REACH_SILENT = 4  # ingest is down


def draw(*key: object) -> float:
    """A number of 0 to 1 that depends on nothing but the key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def interpolate(curve: Sequence[tuple[float, float]], x: float) -> float:
    """y at x of a curve whose x falls; beyond its ends it stays level."""
    if x >= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x >= x1:
            return y1 + (y0 - y1) * (x - x1) / (x0 - x1)
    return curve[-1][1]


class Cell:
    """A battery that is drained; without one, `battery_mv` is 0 as the firmware wants it."""

    def __init__(self, battery: Battery | None) -> None:
        self._battery = battery
        self.drained_uj = 0.0

    @property
    def capacity_uj(self) -> float:
        """Of a full cell; endless without one."""
        return self._battery.capacity_mah * UJ_PER_MAH if self._battery else float("inf")

    @property
    def left(self) -> float:
        """How full it is, 0 to 1."""
        if self._battery is None:
            return 1.0
        return max(0.0, self._battery.start - self.drained_uj / self.capacity_uj)

    @property
    def battery_mv(self) -> int:
        if self._battery is None:
            return 0
        return round(interpolate(self._battery.curve, self.left)) - self._battery.sag_mv


class Air:
    """The radio of one board: what a session meets at a moment."""

    def __init__(self, scenario: Scenario, group: Group, board: str) -> None:
        self._radio: Radio = scenario.radio
        self._group = group
        self._seed = (scenario.seed, board)
        self._faults = [fault for fault in scenario.faults if board in fault.boards]
        self._moments = [moment for moment, _ in group.rssi]

    @property
    def radio(self) -> Radio:
        return self._radio

    def rssi(self, now_ms: int) -> int:
        return self._group.rssi[bisect_right(self._moments, now_ms) - 1][1]

    def lasting(self, kind: str, now_ms: int) -> Fault | None:
        """The fault of this kind that lasts now."""
        return next((f for f in self._faults if f.kind == kind and f.from_ms <= now_ms < f.to_ms), None)

    def associate_ms(self, now_ms: int, cached: bool) -> int:
        """How long an association takes; negative for how long one takes that fails."""
        rssi = self.rssi(now_ms)
        if self.lasting("no-wifi", now_ms) or rssi < self._radio.floor_dbm:
            return -self._radio.fail_ms
        spread = 0.8 + 0.4 * draw(*self._seed, "associate", now_ms)
        took_ms = interpolate(self._radio.associate, rssi) * spread
        return round(took_ms + (0 if cached else self._radio.dhcp_ms))

    def breaks(self, now_ms: int) -> bool:
        """Whether a session that begins now breaks in the middle."""
        share = interpolate(self._radio.loss, self.rssi(now_ms))
        lossy = self.lasting("lossy", now_ms)
        if lossy:
            share = max(share, lossy.share)
        return draw(*self._seed, "loss", now_ms) < share

    def outlook(self, now_ms: int) -> tuple[int, int]:
        """(associate_ms, REACH_*) for a session that begins now with a cached lease, whether there is one or not."""
        link_ms = self.associate_ms(now_ms, cached=True)
        connect_ms = now_ms + abs(link_ms)
        if link_ms < 0:
            return link_ms, REACH_NO_WIFI
        if self.lasting("broker-down", connect_ms):
            return link_ms, REACH_REFUSED
        if self.breaks(connect_ms):
            return link_ms, REACH_BREAKS
        return link_ms, REACH_SILENT if self.lasting("ingest-down", connect_ms) else REACH_CLOUD

    def one_way_ms(self, size: int) -> int:
        """For so many bytes to the other side."""
        return round(self._radio.rtt_ms / 2 + size * 8 / self._radio.kbps)
