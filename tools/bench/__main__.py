"""Run the benchmarks and print a table for each: value, what it is compared with, and the ratio of the two."""

import importlib
import json
import pkgutil
from types import ModuleType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tools import bench
from tools.bench import Row


def names() -> list[str]:
    """The benchmarks there are, in the order they run."""
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))


def title(module: ModuleType) -> str:
    """The first line of the module's docstring."""
    return (module.__doc__ or module.__name__).strip().splitlines()[0]


def table(heading: str, rows: list[Row]) -> Table:
    made = Table(title=heading, title_justify="left", title_style="bold")
    for column in ("", "value", "unit", "beside", "other", "ratio", "aim"):
        made.add_column(column, justify="right" if column in ("value", "other", "ratio") else "left")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        made.add_row(row.what, _number(row.value), row.unit, row.beside, _number(row.other), ratio, row.aim)
    return made


def as_json(results: dict[str, list[Row]]) -> str:
    found: dict[str, list[dict[str, Any]]] = {
        name: [row._asdict() | {"ratio": row.ratio} for row in rows] for name, rows in results.items()
    }
    return json.dumps(found, indent=2)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@click.command()
@click.argument("selected", nargs=-1, metavar="[NAME]...")
@click.option("--json", "json_wanted", is_flag=True, help="Print the rows for a program.")
def main(selected: tuple[str, ...], json_wanted: bool) -> None:
    """Measure, all benchmarks or those named."""
    unknown = set(selected) - set(names())
    if unknown:
        raise click.UsageError(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    console = Console()
    results: dict[str, list[Row]] = {}
    for name in selected or names():
        module = importlib.import_module(f"tools.bench.{name}")
        results[name] = module.run()
        if not json_wanted:
            console.print(table(title(module), results[name]))
    if json_wanted:
        click.echo(as_json(results))


if __name__ == "__main__":
    main(prog_name="python -m tools.bench")
