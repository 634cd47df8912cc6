"""How values look on a page. Pure; registered as Jinja filters under these names."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from cloud.clock import time_text


def utc(ms: int) -> str:
    """`2026-01-31 12:00:00 UTC`; what cannot be a date is shown as it is."""
    return time_text(ms, "%Y-%m-%d %H:%M:%S UTC")


def iso(ms: int) -> str:
    """For the `datetime` attribute."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return ""


def grouped(number: int) -> str:
    """`12 345`, with thin spaces."""
    return f"{number:,}".replace(",", "\u2009")


def figure(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def bytes_(size: int) -> str:
    """`812 B`, `23 kB`, `1.2 MB`."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.0f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


def span(ms: int) -> str:
    """A length of time in its two largest units."""
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{days} d {hours % 24} h"


def energy(microjoules: int) -> str:
    """µJ, mJ or J."""
    if microjoules < 1000:
        return f"{microjoules} µJ"
    return f"{microjoules / 1000:.3g} mJ" if microjoules < 1_000_000 else f"{microjoules / 1_000_000:.4g} J"


def shorten(text: str, length: int = 60) -> str:
    """The text, cut at `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shape(schema: dict[str, Any]) -> Markup:
    """A JSON schema in words, with links to the named shapes of the page."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return Markup('<a href="#shape-{}">{}</a>').format(name, name)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return Markup(" or ").join(shape(part) for part in schema[key])
    if schema.get("type") == "array":
        return Markup("list of {}").format(shape(schema.get("items") or {}))
    if "enum" in schema:
        return Markup("{}").format(" | ".join(str(value) for value in schema["enum"]))
    if "const" in schema:
        return Markup("{}").format(schema["const"])
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"), ("pattern", "like"))
        if key in schema
    ]
    return Markup("{}").format(" ".join([str(schema.get("type", "anything")), *bounds]))


FILTERS: dict[str, Callable[..., Any]] = {
    "utc": utc,
    "iso": iso,
    "grouped": grouped,
    "figure": figure,
    "bytes": bytes_,
    "span": span,
    "energy": energy,
    "shorten": shorten,
    "shape": shape,
}
