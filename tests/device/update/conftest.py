"""Makes a world of artifacts, and runs the MicroPython programs of this folder in it."""

import json
import re
import subprocess
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cloud.models import patching
from contract import artifact
from model_export import keys, runtime, statements
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.support.micropython import environment
from tools.firmware import HOST_ARCH
from tools.scenario.program import Program

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
DEADLINE_S = 300
CUTS_HEAP = "2M"  # flash, the log of its operations and copies of it; a larger heap takes longer to collect

# (name of the program, *arguments) -> what it printed, one value per line of JSON
RunProgram = Callable[..., list[Any]]


def checks_of(name: str) -> list[str]:
    """The names of the checks a program of checks.py makes, for parametrizing a test over them."""
    return re.findall(r"^def (check_\w+)\(", (PROGRAMS / f"{name}.py").read_text(), re.MULTILINE)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs of this one, compiled as the firmware is: text would be compiled within the heap they
    are to prove enough."""
    folder = tmp_path_factory.mktemp("programs")
    for source in [*PROGRAMS.glob("*.py"), HERE.parent / "storage" / "ram_block.py"]:
        compiled = folder / source.with_suffix(".mpy").name
        command = [runtime.mpy_cross(), f"-march={HOST_ARCH}", "-s", source.name, "-o", compiled, source]
        subprocess.run(command, check=True, timeout=30)
    return folder


@pytest.fixture(scope="session")
def run_program(best_program: Program, programs: Path) -> RunProgram:
    """Runs a program under MicroPython with the firmware on its path; a traceback there fails the test."""

    def run(name: str, *arguments: object, heap: str = "8M", within: Program = best_program) -> list[Any]:
        command = [within.micropython, "-X", f"heapsize={heap}", "-m", name, *map(str, arguments)]
        environ = environment(within, programs)
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture(scope="session")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    """The key the boards trust."""
    return keys.create(tmp_path_factory.mktemp("keys"), "main")


def raw_deflate(data: bytes, window_bits: int = 9) -> bytes:
    """As the server deflates artifacts, however little that spares."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    return packer.compress(data) + packer.flush()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, publisher: PublisherKey) -> forge.World:
    """Two sound models, one that will be made to crash, and some that fail their self-test."""
    world = forge.World(tmp_path_factory.mktemp("world"))
    world.trust(publisher)
    world.publish("v1", forge.sound(publisher, 10, version="1.0.0", sequence=5))
    world.publish("v2", forge.sound(publisher, 20, pad=5000, version="2.0.0", sequence=6))
    world.publish("v3", forge.sound(publisher, 50, pad=9000, version="2.1.0", sequence=7))
    world.publish("crash", forge.sound(publisher, 30, pad=5000, version="3.0.0", sequence=8))
    allowed = forge.sound(publisher, 65, version="0.8.0", sequence=3)
    leave = statements.leave(publisher, sha256(allowed).digest(), 6, 2_000_000_000)
    world.publish("allowed", allowed, leave=leave.hex())
    world.publish("older", forge.sound(publisher, 60, version="0.9.0", sequence=4))
    world.publish("final", forge.sound(publisher, 70, version="5.0.0", sequence=9, rollback_floor=9))
    world.publish("mortal", forge.sound(publisher, 80, version="6.0.0", sequence=9, expires=2_000_000_000))
    role: dict[str, Any] = {"class": artifact.CLASS_SHADOW}
    shadow = forge.sound(publisher, 45, version="2.3.0", sequence=7, **role)
    world.publish("only_shadow", shadow)
    world.publish("late", forge.faulty(publisher, {"body": "if f[0] == 9: raise ValueError"}))
    base = (world.folder / "v1.bin").read_bytes()
    target = forge.sound(publisher, 25, pad=600, version="2.2.0", sequence=7)
    made = patching.make(base, target)
    assert made is not None
    world.publish_patch("patched", base, target, made.data)
    world.publish_patch("no_base", target, target, made.data)
    world.publish_patch("torn", base, target, made.data[:-9])
    other = patching.make(base, forge.sound(publisher, 26, pad=600, version="2.2.0", sequence=7))
    assert other is not None
    world.publish_patch("another", base, target, other.data)
    world.publish_patch("noise", base, target, sha256(b"noise").digest() * 9)
    deflated = {
        "deflated": target,
        "deflated_short": target[:-1],
        "deflated_long": target + b"x",
        "deflated_bomb": target + bytes(200_000),
        "deflated_other": forge.sound(publisher, 26, pad=600, version="2.2.0", sequence=7),
    }
    for name, content in deflated.items():
        world.publish_patch(name, None, target, raw_deflate(content))
    sound = raw_deflate(target)
    world.publish_patch("deflated_torn", None, target, sound[:-9])
    world.publish_patch("deflated_noise", None, target, sha256(b"noise").digest() * 9)
    world.publish_patch("deflated_turned", None, target, sound[:200] + bytes((sound[200] ^ 8,)) + sound[201:])
    for name, body in forge.FAULTY.items():
        world.publish(name, forge.faulty(publisher, body))
    world.write()
    return world
