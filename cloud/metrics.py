"""/metrics: HTTP by route template, the counters every part leaves in the store, and the state of the fleet."""

import re
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from litestar import Response, get
from litestar.datastructures import State
from litestar.plugins.prometheus import PrometheusConfig
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.clock import now_ms
from cloud.store.tables import devices, quarantine, services

# group_path: the label is the route's template. With raw paths every device id would make a series of its own.
HTTP_METRICS = PrometheusConfig(
    app_name="edgewise",
    prefix="edgewise_http",
    group_path=True,
    exclude=["^/live/", "^/api/v1/artifacts/"],
    excluded_http_methods=["OPTIONS"],
)

_NAME = re.compile(r"[^a-z0-9_]")


class _Snapshot(Collector):
    """Families read from the store beforehand: a collector cannot await."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@get("/metrics", media_type=CONTENT_TYPE_PLAIN_0_0_4, tags=["Operation"], summary="Prometheus metrics")
async def metrics(state: State) -> Response[bytes]:
    """Text exposition format 0.0.4."""
    async with state.engine.connect() as connection:
        families = [*await _services(connection), *await _fleet(connection)]
    stored = CollectorRegistry()
    stored.register(_Snapshot(families))
    return Response(generate_latest(REGISTRY) + generate_latest(stored), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _services(connection: AsyncConnection) -> list[Metric]:
    up = GaugeMetricFamily("edgewise_service_ready", "1 when the part can do its work", labels=["service"])
    beat = GaugeMetricFamily("edgewise_service_beat_age_seconds", "Since the part's last heartbeat", labels=["service"])
    counters: dict[str, CounterMetricFamily] = {}
    for row in (await connection.execute(sa.select(services).order_by(services.c.service))).mappings():
        up.add_metric([row["service"]], float(row["ready"]))
        beat.add_metric([row["service"]], max(0.0, (now_ms() - row["beat_ms"]) / 1000))
        for name, value in row["counters"].items():
            metric = f"edgewise_{row['service']}_{_NAME.sub('_', name.lower())}".removesuffix("_total")
            counters[metric] = CounterMetricFamily(metric, "Since the part started", value=value)
    return [up, beat, *counters.values()]


async def _fleet(connection: AsyncConnection) -> list[Metric]:
    boards = GaugeMetricFamily("edgewise_boards", "Boards by session state", labels=["online"])
    counts = sa.select(devices.c.online, sa.func.count()).group_by(devices.c.online)
    for online, count in await connection.execute(counts):
        boards.add_metric(["yes" if online else "no"], count)
    aside = GaugeMetricFamily("edgewise_quarantine_frames", "Frames that are set aside and were not replayed")
    waiting = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.replayed_ms.is_(None))
    aside.add_metric([], (await connection.execute(waiting)).scalar_one())
    return [boards, aside]
