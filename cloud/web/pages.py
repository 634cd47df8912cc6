"""What each page shows: reads of the store, put into templates part by part."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.devices import queries as devices_queries
from cloud.devices import readings, views
from cloud.devices.queries import Chosen
from cloud.models import queries as model_queries
from cloud.rollouts import queries as rollout_queries
from cloud.rollouts.views import Rollout
from cloud.web import fleet
from cloud.web.assets import asset
from cloud.web.charts import Mark, line_chart, share_bar, sparkline, swatch
from cloud.web.filters import FILTERS
from cloud.web.sse import Parts

_FOLDER = Path(__file__).parent
BOARDS_PER_PAGE = 100
SAMPLE_CHOICES = (300, 1000, 5000)
_ALERTS = 8
_ROLLOUTS = 3
_SPARK_SAMPLES = 120


def environment() -> jinja2.Environment:
    """The templates with everything they call."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(FILTERS)
    functions: dict[str, Any] = {"asset": asset, "swatch": swatch}
    env.globals.update(functions)
    return env


def fleet_query(chosen: Chosen, after: str = "") -> str:
    """What follows the question mark in the fleet page's address."""
    given = {"find": chosen.find, "presence": chosen.state or "", "after": after}
    return urlencode({name: value for name, value in given.items() if value})


class Pages:
    """Renders pages, and their parts for live updates."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._env = environment()

    def render(self, template: str, **context: Any) -> str:
        """A whole page."""
        context = {"here": "", "live": "", "now_ms": now_ms(), **context}
        return self._env.get_template(template).render(context)

    async def fleet_parts(self, after: str, chosen: Chosen) -> Parts:
        """summary, boards, alerts and models of the fleet page; the chosen boards from the one after `after` on."""
        now = now_ms()
        async with self._engine.connect() as connection:
            summary = await fleet.summary(connection, now)
            page = await devices_queries.list_devices(connection, now, after, BOARDS_PER_PAGE + 1, chosen=chosen)
            rows = [await self._board_row(connection, device) for device in page[:BOARDS_PER_PAGE]]
            alerts = await devices_queries.list_events(connection, limit=_ALERTS)
            strips = await self._strips(connection)
            rollouts = await rollout_queries.list_rollouts(connection, now, _ROLLOUTS)
        more = page[BOARDS_PER_PAGE - 1].device if len(page) > BOARDS_PER_PAGE else ""
        boards = {
            "rows": rows,
            "size": BOARDS_PER_PAGE,
            "first": fleet_query(chosen) if after else None,
            "next": fleet_query(chosen, more) if more else None,
            "of": summary.boards,
        }
        return {
            "summary": self._part("summary.html", fleet=summary),
            "boards": self._part("boards.html", boards=boards),
            "alerts": self._part("alerts.html", alerts=alerts),
            "models": self._part("models.html", strips=strips),
            "rollouts": self._part("rollouts.html", rollouts=[_rollout_strip(view) for view in rollouts]),
        }

    async def rollout_parts(self, rollout: int) -> Parts:
        """All parts of a rollout's page; raises NotFound."""
        async with self._engine.connect() as connection:
            detail = await rollout_queries.show_rollout(connection, rollout, now_ms())
        return {
            "rollout": self._part("rollout_head.html", detail=detail, bar=_rollout_strip(detail.summary)["bar"]),
            "gates": self._part("rollout_gates.html", detail=detail),
            "shadow": self._part("rollout_shadow.html", detail=detail),
            "steps": self._part("rollout_steps.html", detail=detail),
            "cohort": self._part("rollout_cohort.html", detail=detail),
        }

    async def device_parts(self, device: str, samples: int) -> Parts:
        """All parts of a device's page; raises NotFound."""
        now = now_ms()
        async with self._engine.connect() as connection:
            detail = await devices_queries.show_device(connection, device, now)
            events = await devices_queries.list_events(connection, device, limit=200)
            found = await readings.read_last(connection, device, samples)
        charts = _charts(found, events)
        return {
            "head": self._part("device_head.html", detail=detail),
            "readings": self._part(
                "device_readings.html", detail=detail, charts=charts, samples=samples, choices=SAMPLE_CHOICES
            ),
            "events": self._part("device_events.html", events=events[:20]),
            "updates": self._part("device_updates.html", detail=detail),
            "questions": self._part("device_questions.html", detail=detail),
            "health": self._part("device_health.html", detail=detail),
            "config": self._part("device_config.html", detail=detail),
            "books": self._part("device_books.html", detail=detail),
        }

    async def models_page(self) -> str:
        """Every version of every model and the history of the aliases."""
        async with self._engine.connect() as connection:
            versions = await model_queries.list_versions(connection)
            names = list(dict.fromkeys(version.name for version in versions))
            changes = {name: await model_queries.alias_changes(connection, name) for name in names}
        groups = [(name, [version for version in versions if version.name == name]) for name in names]
        return self.render("models.html", here="models", groups=groups, changes=changes)

    async def fleet_stamp(self) -> Hashable:
        """Changes whenever the fleet page may look different."""
        async with self._engine.connect() as connection:
            return await fleet.stamp(connection)

    async def device_stamp(self, device: str) -> Hashable:
        """Changes whenever the page of a device may look different."""
        async with self._engine.connect() as connection:
            return await fleet.device_stamp(connection, device)

    def _part(self, template: str, **context: Any) -> str:
        return Markup(self._env.get_template(f"parts/{template}").render(context))

    async def _board_row(self, connection: AsyncConnection, device: views.Device) -> dict[str, Any]:
        found = await readings.read_last(connection, device.device, _SPARK_SAMPLES)
        first = [row.values[0] for row in found.rows if row.values]
        last = found.rows[-1].values if found.rows else []
        texts = [
            f"{channel.name} {value:.4g} {channel.unit}"
            for channel, value in zip(found.channels[:2], last, strict=False)
        ]
        if len(last) > 2:
            texts.append(f"and {len(last) - 2} more")
        label = f"{found.channels[0].name}, last {len(first)} samples" if found.channels else ""
        wanted, running = device.wanted.sha256, device.model
        pending = wanted is not None and (running is None or not wanted.startswith(running.sha8))
        return {
            "device": device,
            "spark": sparkline(first, label),
            "reading": ", ".join(texts),
            "pending": pending and not device.wanted.why,
        }

    async def _strips(self, connection: AsyncConnection) -> list[dict[str, Any]]:
        versions = await model_queries.list_versions(connection)
        running = await fleet.running_versions(connection)
        strips: list[dict[str, Any]] = []
        for name in dict.fromkeys([*(version.name for version in versions), *running]):
            shares = [(f"{version}", count) for version, count in running.get(name, [])]
            champion = next((v for v in versions if v.name == name and "champion" in v.aliases), None)
            strips.append(
                {
                    "name": name,
                    "champion": "" if champion is None else champion.version,
                    "pending": 0 if champion is None else max(0, champion.boards_wanted - champion.boards_running),
                    "shares": shares,
                    "bar": share_bar(shares),
                }
            )
        return strips


def _rollout_strip(view: Rollout) -> dict[str, Any]:
    shares = [
        ("run it", view.running),
        ("are to take it", view.waiting),
        ("failed", view.failed),
        ("others", view.boards - view.running - view.waiting - view.failed),
    ]
    return {"view": view, "shares": shares, "bar": share_bar(shares)}


def _charts(found: views.Readings, events: list[views.Event]) -> list[dict[str, Any]]:
    marks = [Mark(event.at_ms, f"{event.kind}, score {event.score:.4g}") for event in events]
    charts: list[dict[str, Any]] = []
    for number, channel in enumerate(found.channels):
        points = [(float(row.at_ms), row.values[number]) for row in found.rows if number < len(row.values)]
        points.sort()
        charts.append(
            {
                "name": channel.name,
                "unit": channel.unit,
                "last": points[-1][1] if points else None,
                "svg": line_chart(points, channel.unit, f"{channel.name} of {found.device}", number, marks),
            }
        )
    return charts
