"""Charts as SVG, drawn by the server: no script, no inline style, colours from the sheet's classes. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

from markupsafe import Markup, escape

from cloud.clock import time_text

Point = tuple[float, float]

SPARK_WIDTH, SPARK_HEIGHT = 132, 30
CHART_WIDTH, CHART_HEIGHT = 900, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 8, 20
_COLOURS = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at a time (unix ms), with the words a pointer or a screen reader gets."""

    at_ms: float
    label: str


def sparkline(values: Sequence[float], label: str) -> Markup:
    """The shape of a series in 132 x 30 pixels; nothing for fewer than two values."""
    if len(values) < 2:
        return Markup("")
    points = thinned([(float(at), value) for at, value in enumerate(values)], SPARK_WIDTH)
    low, high = _limits([value for _, value in points])
    path = _path(points, (0.0, len(values) - 1.0), (low, high), (1, 2, SPARK_WIDTH - 2, SPARK_HEIGHT - 4))
    return Markup(
        '<svg class="spark" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        '<path class="line s1" d="{path}"/></svg>'
    ).format(w=SPARK_WIDTH, h=SPARK_HEIGHT, label=label, path=path)


def line_chart(points: Sequence[Point], unit: str, label: str, colour: int, marks: Iterable[Mark] = ()) -> Markup:
    """One channel over time: points (unix ms, value) in order of time, marks where events happened."""
    if len(points) < 2:
        return Markup('<p class="soft">No readings yet.</p>')
    times = (points[0][0], max(points[-1][0], points[0][0] + 1))
    limits = _limits([value for _, value in points])
    box = (_LEFT, _TOP, CHART_WIDTH - _LEFT - _RIGHT, CHART_HEIGHT - _TOP - _BOTTOM)
    parts = [_value_axis(limits, box), _time_axis(times, box)]
    for mark in marks:
        if times[0] <= mark.at_ms <= times[1]:
            x = _scale(mark.at_ms, times, box[0], box[2])
            parts.append(
                Markup(
                    '<line class="mark" x1="{x}" x2="{x}" y1="{top}" y2="{end}"><title>{label}</title></line>'
                ).format(x=x, top=_TOP, end=_TOP + box[3], label=mark.label)
            )
    path = _path(thinned(points, box[2]), times, limits, box)
    parts.append(Markup('<path class="line s{n}" d="{path}"/>').format(n=colour % _COLOURS + 1, path=path))
    return Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">{inner}</svg>').format(
        w=CHART_WIDTH, h=CHART_HEIGHT, label=f"{label}, {unit}", inner=Markup("").join(parts)
    )


def share_bar(shares: Sequence[tuple[str, int]]) -> Markup:
    """A bar split by counts, in the colours 1, 2, ... of the legend beside it."""
    total = sum(count for _, count in shares)
    parts: list[Markup] = []
    x = 0.0
    for number, (name, count) in enumerate(shares):
        width = 100 * count / total if total else 0.0
        parts.append(
            Markup(
                '<rect class="f{n}" x="{x:.3f}%" y="0" width="{w:.3f}%" height="12"><title>{t}</title></rect>'
            ).format(n=number % _COLOURS + 1, x=x, w=width, t=f"{name}: {count}")
        )
        x += width
    words = ", ".join(f"{name} on {count}" for name, count in shares) or "no boards"
    return Markup('<svg role="img" aria-label="{}">{}</svg>').format(words, Markup("").join(parts))


def swatch(number: int) -> Markup:
    """The colour of entry `number` (from 0) of a legend."""
    return Markup(
        '<svg aria-hidden="true" viewBox="0 0 10 10"><rect class="f{}" width="10" height="10"/></svg>'
    ).format(number % _COLOURS + 1)


def thinned(points: Sequence[Point], width: int) -> list[Point]:
    """At most four points per pixel column, first, lowest, highest and last: the line looks the same."""
    if len(points) <= 4 * width:
        return list(points)
    begin, end = points[0][0], points[-1][0]
    columns: dict[int, list[Point]] = {}
    for point in points:
        columns.setdefault(int((point[0] - begin) / ((end - begin) or 1) * (width - 1)), []).append(point)
    kept: list[Point] = []
    for column in columns.values():
        chosen = {column[0], min(column, key=lambda p: p[1]), max(column, key=lambda p: p[1]), column[-1]}
        kept.extend(sorted(chosen))
    return kept


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], roughly `about` of them (steps of 1, 2 or 5 times a power of ten)."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = floor(low / step) + (0 if low % step == 0 else 1)
    found: list[float] = []
    while (first + len(found)) * step <= high + step * 1e-9:
        found.append((first + len(found)) * step)
    return found


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _scale(value: float, limits: tuple[float, float], begin: float, length: float) -> float:
    return round(begin + (value - limits[0]) / (limits[1] - limits[0]) * length, 1)


def _path(
    points: Iterable[Point],
    times: tuple[float, float],
    limits: tuple[float, float],
    box: tuple[float, float, float, float],
) -> str:
    left, top, width, height = box
    steps = (
        f"{_scale(at, times, left, width):g},{_scale(value, limits, top + height, -height):g}" for at, value in points
    )
    return "M" + "L".join(steps)


def _value_axis(limits: tuple[float, float], box: tuple[float, float, float, float]) -> Markup:
    left, top, width, height = box
    parts: list[Markup] = []
    for value in ticks(*limits, 4):
        y = _scale(value, limits, top + height, -height)
        parts.append(
            Markup(
                '<line class="grid" x1="{l}" x2="{r}" y1="{y}" y2="{y}"/>'
                '<text x="{t}" y="{b}" text-anchor="end">{v}</text>'
            ).format(l=left, r=left + width, y=y, t=left - 6, b=y + 4, v=f"{value:g}")
        )
    return Markup("").join(parts)


def _time_axis(times: tuple[float, float], box: tuple[float, float, float, float]) -> Markup:
    left, top, width, height = box
    span_ms = times[1] - times[0]
    form = "%H:%M:%S" if span_ms < 3 * 3_600_000 else "%d %b %H:%M" if span_ms < 20 * 86_400_000 else "%d %b %Y"
    parts: list[Markup] = []
    for share, anchor in ((0.0, "start"), (1 / 3, "middle"), (2 / 3, "middle"), (1.0, "end")):
        text = time_text(times[0] + share * span_ms, form)
        parts.append(
            Markup('<text x="{x}" y="{y}" text-anchor="{a}">{t}</text>').format(
                x=round(left + share * width, 1), y=top + height + 15, a=anchor, t=escape(text)
            )
        )
    return Markup("").join(parts)
