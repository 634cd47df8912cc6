"""Rebuild every generated file, or with --check compare each with what would be written.

A generator is a function without arguments that returns {path from the repository's root: whole text}. To add one,
import it inside `_generators` and list it there; it must give the same text at each call on every machine.
"""

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Generator = Callable[[], dict[str, str]]


def _generators() -> list[Generator]:
    from tools import gen_contract, gen_rtc, gen_ulp  # which need ROOT

    return [gen_contract.protocol_tables, gen_contract.wire_types, gen_rtc.rtc_table, gen_ulp.ulp_program]


def generated() -> dict[str, str]:
    """What every generator makes, by path; two generators may not claim one path."""
    files: dict[str, str] = {}
    for generator in _generators():
        made = generator()
        twice = files.keys() & made.keys()
        if twice:
            raise ValueError(f"{generator.__module__}.{generator.__qualname__} claims {sorted(twice)} a second time")
        files |= made
    return files


def write(files: dict[str, str], root: Path) -> list[str]:
    """Write the files that differ, return their paths."""
    changed = [path for path, text in files.items() if _read(root / path) != text]
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path], encoding="utf-8")
    return changed


def differences(files: dict[str, str], root: Path) -> list[str]:
    """Unified diffs, at most 40 lines each, of the files that are not what their generator makes."""
    found: list[str] = []
    for path, text in files.items():
        old, new = _read(root / path).splitlines(), text.splitlines()
        diff = list(difflib.unified_diff(old, new, f"{path} (as it is)", f"{path} (as generated)", lineterm=""))
        if diff:
            found.append("\n".join(diff[:40]))
    return found


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def main(arguments: list[str]) -> int:
    files = generated()
    if "--check" not in arguments:
        for path in write(files, ROOT):
            print(f"wrote {path}")
        return 0
    stale = differences(files, ROOT)
    for diff in stale:
        print(diff, file=sys.stderr)
    if stale:
        print(f"gen: {len(stale)} of {len(files)} generated files are stale; run `make gen`", file=sys.stderr)
        return 1
    print(f"gen: {len(files)} generated files are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
