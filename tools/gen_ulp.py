"""firmware/device/board/ulp_program.py: the program in firmware/ulp/watch.s as the board loads it.

The assembler (micropython-py-esp32-ulp) runs under MicroPython. Where it could not be fetched, the file in the
repository counts as long as it was made of this very source.
"""

import hashlib
import subprocess
import tempfile
from pathlib import Path

from tools import sdists
from tools.firmware import program
from tools.gen import ROOT

SOURCE_PATH = "firmware/ulp/watch.s"
TARGET_PATH = "firmware/device/board/ulp_program.py"
DEADLINE_S = 60
_LINE_BYTES = 16

# Prints "<word address> <symbol>" for each .global, then the binary.
_ASSEMBLE = """
import sys
from esp32_ulp import src_to_binary
with open(sys.argv[1]) as file:
    print(src_to_binary(file.read()).hex())
"""


def assemble(source: Path) -> tuple[dict[str, int], bytes]:
    """(word address by symbol, binary for esp32.ULP.load_binary()). Raises sdists.Unavailable, RuntimeError."""
    assembler = sdists.fetch(sdists.ESP32_ULP)
    with tempfile.TemporaryDirectory(prefix="edgewise-ulp-") as work:
        Path(work, "btree.py").touch()  # for #include alone, and not in MicroPython's unix port
        Path(work, "assemble.py").write_text(_ASSEMBLE, encoding="utf-8")
        done = subprocess.run(
            [program("micropython"), "assemble.py", str(source)],
            cwd=work,
            env={"MICROPYPATH": f"{work}:{assembler}:.frozen"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{source}: {done.stdout}{done.stderr}")
    *symbols, binary = done.stdout.splitlines()
    return {name: int(address) for address, name in map(str.split, symbols)}, bytes.fromhex(binary)


def ulp_program() -> dict[str, str]:
    """The generated module, or the one there is where nothing can be assembled. Raises ValueError when that is old."""
    source = ROOT / SOURCE_PATH
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    try:
        symbols, binary = assemble(source)
    except sdists.Unavailable as unavailable:
        kept = (ROOT / TARGET_PATH).read_text(encoding="utf-8")
        if digest not in kept:
            raise ValueError(f"{TARGET_PATH} is not made of {SOURCE_PATH} as it is. {unavailable}") from None
        return {TARGET_PATH: kept}
    return {TARGET_PATH: _module(digest, symbols, binary)}


def _module(digest: str, symbols: dict[str, int], binary: bytes) -> str:
    places = "".join(f"{name.upper()} = const({address})\n" for name, address in sorted(symbols.items()))
    escaped = ["".join(rf"\x{byte:02x}" for byte in binary[at : at + _LINE_BYTES]) for at in _line_starts(binary)]
    lines = "".join(f'    b"{line}"\n' for line in escaped)
    return (
        f'"""{SOURCE_PATH}, assembled by tools/gen_ulp.py: run `make gen` after a change there."""\n\n'
        f"from micropython import const\n\n"
        f"# SHA-256 of the source: {digest}\n"
        f"# Addresses in words of RTC slow memory, from where the program is loaded\n{places}\n"
        f"PROGRAM = (\n{lines})\n"
    )


def _line_starts(binary: bytes) -> range:
    return range(0, len(binary), _LINE_BYTES)
