"""Size budgets that may only go down, and the MicroPython syntax gate: measuring compiles the whole firmware.

    python -m tools.sizes           fail when something is larger than its line in tools/sizes.txt, or has no line
    python -m tools.sizes --update  lower budgets to what is measured, add new lines, drop lines of what is gone

A line is `<bytes>  <name>`, optionally followed by `# <reason>`. To grow, raise the number by hand and say why there;
--update never raises one. The whole firmware has no line of its own: it cannot exceed the sum of its files' budgets.
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tools.firmware import HOST_ARCH, CompileFailed, build

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = ROOT / "tools" / "sizes.txt"
# The chips sold as ESP32 and ESP32-S3; viper routines are largest there.
MEASURED_ARCH = "xtensawin"
WEB_ASSETS = ROOT / "cloud" / "web" / "static"
WEB_TOTAL = "web assets, all"


class Budget(NamedTuple):
    bytes: int
    reason: str = ""


class SizesUnreadable(Exception):
    """A line of the budget file that cannot be understood."""


def measure() -> dict[str, int]:
    """Bytes by name: each firmware file as it lies on an ESP32, and the web assets. Raises CompileFailed."""
    with tempfile.TemporaryDirectory(prefix="edgewise-sizes-") as folder:
        build(Path(folder), HOST_ARCH)  # host.py goes to no chip but has to compile as well
        sizes = {file.target: file.source.stat().st_size for file in build(Path(folder), MEASURED_ARCH)}
    if WEB_ASSETS.is_dir():
        sizes[WEB_TOTAL] = sum(path.stat().st_size for path in WEB_ASSETS.rglob("*") if path.is_file())
    return sizes


def parse(text: str) -> dict[str, Budget]:
    """Budgets by name. Raises SizesUnreadable naming the line."""
    budgets: dict[str, Budget] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry, _, reason = line.partition("#")
        if not entry.strip():
            continue
        size, _, name = entry.strip().partition(" ")
        if not (size.isdecimal() and name.strip()):
            raise SizesUnreadable(f"{BUDGETS.name} line {number}: expected '<bytes>  <name>', found {line!r}")
        budgets[name.strip()] = Budget(int(size), reason.strip())
    return budgets


def render(budgets: dict[str, Budget]) -> str:
    lines = [
        "# Size budgets in bytes; tools/sizes.py explains them. Raise one only by hand, with the reason behind a #."
    ]
    for name, budget in sorted(budgets.items()):
        reason = f"  # {budget.reason}" if budget.reason else ""
        lines.append(f"{budget.bytes:>7}  {name}{reason}")
    return "\n".join(lines) + "\n"


def exceeded(sizes: dict[str, int], budgets: dict[str, Budget]) -> list[str]:
    """One sentence for each measured thing that breaks its budget or has none."""
    problems: list[str] = []
    for name, size in sorted(sizes.items()):
        if name not in budgets:
            problems.append(f"{name}: {size} bytes, no budget yet; add it with python -m tools.sizes --update")
        elif size > budgets[name].bytes:
            over = size - budgets[name].bytes
            problems.append(
                f"{name}: {size} bytes, {over} over its budget; shrink it, or raise the budget with a reason"
            )
    return problems


def lowered(sizes: dict[str, int], budgets: dict[str, Budget]) -> dict[str, Budget]:
    """Budgets no higher than before, one for each measured thing. A reason stays until its budget is lowered."""
    return {
        name: budgets[name] if name in budgets and budgets[name].bytes <= size else Budget(size)
        for name, size in sizes.items()
    }


def main(arguments: list[str]) -> int:
    try:
        budgets = parse(BUDGETS.read_text(encoding="utf-8") if BUDGETS.is_file() else "")
        sizes = measure()
    except (CompileFailed, SizesUnreadable) as error:
        print(f"sizes: {error}", file=sys.stderr)
        return 1
    if "--update" in arguments:
        budgets = lowered(sizes, budgets)
        BUDGETS.write_text(render(budgets), encoding="utf-8")
    problems = exceeded(sizes, budgets)
    for problem in problems:
        print(f"sizes: {problem}", file=sys.stderr)
    if not problems:
        print(f"sizes: {len(sizes)} within budget; {sum(sizes.values()) - sizes.get(WEB_TOTAL, 0)} bytes on a board")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
