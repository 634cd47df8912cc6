"""The table of RTC memory in firmware/DESIGN.md, from the lines of firmware/device/rtc_layout.py."""

import re
import struct

from tools.gen import ROOT

LAYOUT_PATH = "firmware/device/rtc_layout.py"
DESIGN_PATH = "firmware/DESIGN.md"
BEGIN = "<!-- rtc layout -->\n"
END = "<!-- end -->"

# The module itself needs MicroPython, and a comment is not there when it runs.
_FIELD = re.compile(r'    \("(\w+)", (\d+), "(\d*\w|IH)"\),  # (.+)')
_GROUP = re.compile(r"    # (.+)")
_RING_AT = re.compile(r"RING_AT = const\((\d+)\)")
_RTC_BYTES = re.compile(r"RTC_BYTES = const\((\d+)\)")
_TYPES = {"IH": "u48", "B": "u8", "b": "i8", "H": "u16", "I": "u32", "i": "i32", "Q": "u64", "q": "i64"}


def rtc_table() -> dict[str, str]:
    """DESIGN.md with the block between `<!-- rtc layout -->` and `<!-- end -->` rewritten."""
    text = (ROOT / DESIGN_PATH).read_text(encoding="utf-8")
    if text.count(BEGIN) != 1:
        raise ValueError(f"{DESIGN_PATH} needs the marker {BEGIN.strip()} exactly once")
    head, rest = text.split(BEGIN)
    _, end, tail = rest.partition(END)
    return {DESIGN_PATH: head + BEGIN + _table((ROOT / LAYOUT_PATH).read_text(encoding="utf-8")) + end + tail}


def _table(source: str) -> str:
    rows = ["| at | bytes | type | field | meaning |", "|---:|---:|---|---|---|"]
    end = 0
    for line in source.partition("FIELDS = (\n")[2].partition("\n)\n")[0].splitlines():
        if group := _GROUP.fullmatch(line):
            rows.append(f"| | | | **{group[1]}** | |")
        elif field := _FIELD.fullmatch(line):
            name, at, form, meaning = field.groups()
            size = struct.calcsize("<" + form)
            rows.append(f"| {at} | {size} | {_type(form)} | `{name}` | {meaning} |")
            end = int(at) + size
        else:
            raise ValueError(f"{LAYOUT_PATH}: cannot read {line!r}")
    ring_at, rtc_bytes = (int(pattern.findall(source)[0]) for pattern in (_RING_AT, _RTC_BYTES))
    rows.append(f"| {end} | {ring_at - end} | | | spare, 0 |")
    rows.append(f"| {ring_at} | {rtc_bytes - ring_at} | bytes | | the ring: sealed frames, then the open tail |")
    return "\n".join(rows) + "\n"


def _type(form: str) -> str:
    if form in _TYPES:
        return _TYPES[form]
    if form[-1] == "s":
        return "bytes"
    return f"{form[:-1]} x {_TYPES[form[-1]]}"
