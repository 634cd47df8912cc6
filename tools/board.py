"""Put MicroPython and the firmware onto a board at a serial port, with esptool and mpremote as programs.

They run as programs because esptool is GPL and because both keep their command line stable, not their modules. Each
call has a deadline. A port is a device path, or a URL of pyserial such as rfc2217://host:port.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contract import artifact as container
from contract import sensing, wire
from contract.features import Features, SchemaError
from model_export.keys import PublisherKey
from tools.chips import CHIPS, Chip, check_image
from tools.firmware import add_native, build, program

DETECT_DEADLINE_S = 30
FLASH_DEADLINE_S = 600
COPY_DEADLINE_S = 600
BAUD = 460800
MPY_VERSION = 6
MPY_SUB_VERSION = 3  # decides whether machine code in a .mpy is understood
# sys.implementation._mpy >> 10, from MicroPython's py/persistentcode.h
ARCH_BY_NUMBER = {2: "x64", 7: "armv7emsp", 10: "xtensawin", 11: "rv32imc"}
MODEL_FILE = "model.ewa"
# Of Python and Wi-Fi together. In MicroPython with 32-bit words the firmware lived through sessions and updates from
# .mpy files in a heap of 200 kB; in 180 kB some wakes failed, in 160 kB all did. ESP-IDF's Wi-Fi takes some 50 kB.
LEAST_RAM_FOR_FILES = 230_000
ON_BOARD = Path(__file__).parent / "on_board"  # programs that mpremote runs on the board


class BoardError(Exception):
    """Something between this machine and a board went wrong; `cause` and `next_step` are for the person at the desk."""

    def __init__(self, code: str, cause: str, next_step: str) -> None:
        self.code = code
        self.cause = cause
        self.next_step = next_step
        super().__init__(f"{cause}; {next_step}")


class SerialPort(NamedTuple):
    path: str
    usb_id: str
    """vendor:product in hexadecimal."""
    description: str


class Running(NamedTuple):
    """What the MicroPython on a board says of itself."""

    arch: str | None
    mpy_version: int
    mpy_sub_version: int
    machine: str
    has_umqtt: bool
    frozen: bool
    """The firmware is part of its image."""
    ram: int | None
    """Bytes that Python, Wi-Fi and TLS share; None: it cannot say."""


class Deployed(NamedTuple):
    machine: str
    arch: str
    files: int
    bytes: int
    removed: int
    """Files of an earlier release that were taken off."""
    artifact: str | None


def serial_ports() -> list[SerialPort]:
    """The USB serial ports of this machine; a UART on the main board, which has no USB identity, is left out."""
    ports: list[SerialPort] = []
    for line in _run("every port", program("mpremote"), "devs", deadline_s=DETECT_DEADLINE_S).splitlines():
        # path, serial number, vid:pid, manufacturer and product, as mpremote's `devs` prints them
        fields = line.split(maxsplit=3)
        if len(fields) >= 3 and fields[2] not in ("0000:0000", "None:None"):
            ports.append(SerialPort(fields[0], fields[2], fields[3] if len(fields) > 3 else ""))
    return ports


def choose_port(given: str | None) -> str:
    """`given` when it can be a port, or the only one there is. Raises BoardError."""
    if given is None:
        found = [port.path for port in serial_ports()]
        if len(found) == 1:
            return found[0]
        cause = f"there are {len(found)} boards: {', '.join(found)}" if found else "no board is on any USB port"
        raise BoardError("no-port", cause, "name one with --port" if found else "plug it in with a data cable")
    if "://" not in given and (given.startswith("-") or not Path(given).exists()):
        raise BoardError("no-port", f"{given} does not exist", "`edgewise board list` shows the ports there are")
    return given


def detect_chip(port: str) -> Chip:
    """The chip at `port`, asked through its ROM bootloader, which restarts the board. Raises BoardError."""
    said = _esptool(port, "read-mac", deadline_s=DETECT_DEADLINE_S)
    found = re.search(r"^Connected to (ESP\S+) on ", said, re.MULTILINE)
    if found is None:
        raise BoardError("no-chip", "esptool named no chip", "check the cable, hold BOOT, press reset, try again")
    if found[1] not in CHIPS:
        raise BoardError("wrong-chip", f"{found[1]} is not supported", f"supported are {', '.join(CHIPS)}")
    return CHIPS[found[1]]


def flash(port: str, image: Path, erase: bool, shown: bool) -> Chip:
    """Write a complete MicroPython image. Raises BoardError, WrongImage (nothing was written), OSError.

    `shown` lets esptool's progress through to the terminal. `erase` also removes the board's files: its configuration,
    its models and the records it has not sent yet.
    """
    chip = detect_chip(port)
    check_image(image, chip)
    options = ("--erase-all",) if erase else ()
    chip_name = chip.name.lower().replace("-", "")
    write = ("write-flash", *options, hex(chip.image_at), str(image))
    _esptool(port, "--chip", chip_name, "--baud", str(BAUD), *write, deadline_s=FLASH_DEADLINE_S, shown=shown)
    return chip


def probe(port: str) -> Running:
    """Ask the MicroPython at `port` what it is. Raises BoardError."""
    said = _mpremote(port, "run", str(ON_BOARD / "probe.py"), deadline_s=DETECT_DEADLINE_S)
    try:
        answer = json.loads(said.strip().splitlines()[-1])
        mpy = int(answer["mpy"])
        return Running(
            ARCH_BY_NUMBER.get(mpy >> 10 & 0xF),
            mpy & 0xFF,
            mpy >> 8 & 0x3,
            str(answer["machine"]),
            bool(answer["umqtt"]),
            bool(answer["frozen"]),
            answer["ram"],
        )
    except (IndexError, KeyError, ValueError, TypeError):
        raise BoardError(
            "no-answer", f"the board answered {said[-200:]!r}", "write a MicroPython image first: edgewise board flash"
        ) from None


def _wake_and_probe(port: str) -> Running:
    """probe(), of a board that does not answer because it sleeps after a restart by esptool. Raises BoardError."""
    try:
        return probe(port)
    except BoardError as error:
        if "raw repl" not in error.cause:
            raise
        silent = error
    try:
        detect_chip(port)
    except BoardError:
        raise silent from None
    return probe(port)


def check_running(running: Running) -> str:
    """The arch to build for; refuses a MicroPython that could not load the firmware. Raises BoardError."""
    abi = f"{running.mpy_version}.{running.mpy_sub_version}"
    newer = "write MicroPython 1.23 or later with `edgewise board flash`"
    if running.mpy_version != MPY_VERSION or running.mpy_sub_version != MPY_SUB_VERSION:
        needed = f"{MPY_VERSION}.{MPY_SUB_VERSION}"
        raise BoardError("wrong-abi", f"{running.machine} loads .mpy files of ABI {abi}, ours are {needed}", newer)
    if running.arch is None:
        # A C3 or C6 under an older one, which had no RISC-V emitter.
        newer = "write MicroPython 1.25 or later with `edgewise board flash`"
        step = newer if "ESP32" in running.machine else "take an ESP32"
        raise BoardError("wrong-arch", f"the MicroPython of {running.machine} loads no machine code we build", step)
    if not running.has_umqtt:
        step = "take an image of the ESP32 port, or run `mpremote mip install umqtt.simple`"
        raise BoardError("no-umqtt", f"the MicroPython of {running.machine} lacks umqtt.simple", step)
    if not running.frozen and running.ram is not None and running.ram < LEAST_RAM_FOR_FILES:
        has, takes = running.ram // 1000, LEAST_RAM_FOR_FILES // 1000
        cause = f"{running.machine} has {has} kB for Python and Wi-Fi, and the firmware in files takes {takes}"
        step = "freeze it into an image (docs/boards.md, 4), or take a board with PSRAM; if Wi-Fi was on, it has 50 kB"
        raise BoardError("no-room", cause, f"{step} of these: press reset and try again")
    return running.arch


def choose_artifact(candidates: list[Path], arch: str) -> Path:
    """The artifact a board of `arch` runs best: native code for it, else a table. Raises BoardError, OSError."""
    fitting: dict[str, Path] = {}
    made_for: list[str] = []
    for path in candidates:
        try:
            _, manifest, _, _ = container.split(path.read_bytes())
        except container.ArtifactError as error:
            raise BoardError("bad-artifact", f"{path}: {error}", "export it again: edgewise model export") from None
        abi = MPY_VERSION * 256 + MPY_SUB_VERSION
        if (manifest.arch, manifest.abi) == (arch, abi) or manifest.arch == container.ANY_ARCH:
            fitting[manifest.format] = path
        made_for.append(f"{path.name} is {manifest.format} for {manifest.arch}")
    best = fitting.get(container.FORMAT_NATIVE) or fitting.get(container.FORMAT_BLOB)
    if best is None:
        step = f"edgewise model export --arch {arch}"
        raise BoardError("wrong-arch", f"the board runs {arch}, but {', '.join(made_for)}", step)
    return best


def deploy(port: str, config: Path, artifacts: list[Path]) -> Deployed:
    """Copy the firmware, `config` and the fitting artifact onto the board and restart it.

    What `config` names by file, the CA and a recording, goes along from beside it. Where the firmware is frozen into
    the image, its files are taken off instead: they would win over it. The board installs the artifact itself, with the
    checks of an update over the air. Raises BoardError (code "refused" when the board does not take the artifact),
    CompileFailed, OSError.
    """
    device = _device_of(config)
    named = _named_by(config)
    running = _wake_and_probe(port)
    arch = check_running(running)
    artifact = choose_artifact(artifacts, arch) if artifacts else None
    with tempfile.TemporaryDirectory(prefix=f"edgewise-{device}-") as work:
        folder = Path(work) / "board"
        folder.mkdir()
        built = () if running.frozen else (*build(folder, arch), add_native(folder, arch))
        targets = {file.target for file in built if file}
        (folder / "config.json").write_bytes(config.read_bytes())
        for path in named:
            (folder / path.name).write_bytes(path.read_bytes())
        if artifact:
            (folder / MODEL_FILE).write_bytes(artifact.read_bytes())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        sweep = ("exec", f"keep = {sorted(targets)!r}", "+", "run", str(ON_BOARD / "remove_stale.py"))
        # "." because the empty path, which mpremote takes for the root, exists on littlefs only.
        copy = ("fs", "cp", "-r", *(str(path) for path in sorted(folder.iterdir())), ":.")
        said = _mpremote(port, *sweep, "+", *copy, deadline_s=COPY_DEADLINE_S)
    removed = sum(line.startswith(("contract/", "device/")) for line in said.splitlines())
    if artifact:
        _install(port, artifact)
    else:
        _mpremote(port, "reset", deadline_s=DETECT_DEADLINE_S)
    return Deployed(running.machine, arch, len(targets), size, removed, artifact.name if artifact else None)


def _install(port: str, artifact: Path) -> None:
    """Have the board install the artifact that was copied to it, then restart it."""
    # Restarted by a deep sleep: a reset would count as the first bad end of the model's trial.
    restart = ("exec", "--no-follow", "import machine; machine.deepsleep(100)")
    install = ("run", str(ON_BOARD / "install_model.py"))
    said = _mpremote(port, *install, "+", *restart, deadline_s=COPY_DEADLINE_S)
    outcome = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    if outcome["state"] not in (wire.UPDATE_TRIAL, wire.UPDATE_IDLE):
        detail = f" ({outcome['detail']})" if outcome["detail"] else ""
        cause = f"the firmware is on the board, but it refused {artifact.name}: {outcome['reason']}{detail}"
        raise BoardError("refused", cause, "it runs the model it had; `edgewise model show` says what this one is for")


def join_config(login: dict[str, Any], own: Path, trusted: Sequence[PublisherKey]) -> dict[str, Any]:
    """A board's config.json: what the server gave it, what is in the file `own`, and the publishers it trusts.

    `own` may change how the board reaches the broker, such as {"broker": {"host": "gateway.local"}}. Raises BoardError
    when a board could not run with the outcome, OSError.
    """
    try:
        given = dict(json.loads(own.read_text(encoding="utf-8")))
        broker = login["broker"] | given.pop("broker", {})
    except (ValueError, TypeError):
        step = "docs/boards.md and docs/sensors.md have examples"
        raise BoardError("bad-config", f"{own} is no JSON object", step) from None
    keys = {key.key_id.hex(): key.public.hex() for key in trusted}
    config = given | login | {"broker": broker} | ({"trusted_keys": keys} if keys else {})
    _check_config(config, own)
    return config


def _device_of(config: Path) -> str:
    """The device a config.json is for. Raises BoardError when a board could not run with it."""
    try:
        document = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        document = None
    return _check_config(document, config)


def _check_config(document: Any, config: Path) -> str:
    """The device of the document, which is, or comes from, the file `config`. Raises BoardError."""
    try:
        device, schema = str(document["device"]), Features(document["schema"])
        sensor = dict(document["sensor"])
    except SchemaError as error:
        raise BoardError("bad-config", f"{config}: {error}", "see firmware/contract/features.py") from None
    except (ValueError, KeyError, TypeError):
        step = "docs/boards.md says how to make one with `edgewise board config`"
        cause = f"{config} is no board configuration with `device`, `schema` and `sensor`"
        raise BoardError("bad-config", cause, step) from None
    wrong = sensing.problems(sensor, schema)
    if document.get("wake_line") not in (None, "high", "low"):
        wrong.append(("wake_line", f"must be high or low, is {document['wake_line']!r}"))
    wrong += _unreachable(document)
    if wrong:
        cause = "; ".join(f"{key} {words}" for key, words in wrong)
        step = "docs/boards.md has an example, docs/sensors.md one for each driver"
        raise BoardError("bad-config", f"{config}: {cause}", step)
    return device


def _named_by(config: Path) -> list[Path]:
    """The files beside a config.json that a board with it reads. Raises BoardError for one that cannot be used."""
    document = json.loads(config.read_text(encoding="utf-8"))
    found: list[Path] = []
    for key, name in (("broker.ca", document["broker"].get("ca")), ("sensor.file", document["sensor"].get("file"))):
        if name is None:
            continue
        path = config.parent / Path(str(name)).name
        if path.name != name or not path.is_file():
            cause, step = f"{key} names {name!r}", f"put a file of that name beside {config.name}"
        elif key == "broker.ca" and path.read_bytes().startswith(b"-----"):
            cause, step = f"{key} is not in DER", f"openssl x509 -in {name} -outform der -out ca.der"
        else:
            found.append(path)
            continue
        raise BoardError("bad-config", f"{config}: {cause}", step)
    return found


def _unreachable(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Why a board could not reach its broker: (key, cause) each."""
    wrong: list[tuple[str, str]] = []
    broker, wifi = document.get("broker"), document.get("wifi")
    if (
        not isinstance(broker, dict)
        or not isinstance(broker.get("host"), str)
        or not isinstance(broker.get("port"), int)
    ):
        wrong.append(("broker", "must be what `edgewise device add` prints"))
    elif broker["host"] in ("localhost", "0.0.0.0") or broker["host"].startswith("127."):
        cause = "is this machine, for the board itself: run `edgewise up --mqtt-host` with your address in its network"
        wrong.append(("broker.host", f"{broker['host']} {cause}"))
    if not isinstance(wifi, dict) or not all(isinstance(wifi.get(key), str) for key in ("ssid", "password")):
        wrong.append(("wifi", 'must be {"ssid": "NAME", "password": "..."}'))
    return wrong


def _esptool(port: str, *arguments: str, deadline_s: float, shown: bool = False) -> str:
    return _run(port, program("esptool"), "--port", port, *arguments, deadline_s=deadline_s, shown=shown)


def _mpremote(port: str, *arguments: str, deadline_s: float) -> str:
    return _run(port, program("mpremote"), "connect", port, *arguments, deadline_s=deadline_s)


def _run(port: str, *command: str, deadline_s: float, shown: bool = False) -> str:
    """Run a program that talks to `port`; returns what it printed unless it is `shown`. Raises BoardError."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT,
            text=True,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        step = "press reset on the board and try again"
        raise BoardError("timeout", f"{name} on {port} took more than {deadline_s:.0f} s", step) from None
    if done.returncode:
        said = done.stdout or f"exit status {done.returncode}"
        raise BoardError("program-failed", f"{name} on {port} failed: {_cause(said)}", _next_step(said, port))
    return done.stdout or ""


def _cause(said: str) -> str:
    """The line that says what went wrong, out of progress before it and advice or a traceback around it."""
    found = re.search(r"(?:A fatal error occurred|TransportError|^mpremote): (.+)", said, re.MULTILINE)
    return found[1] if found else said.strip().splitlines()[-1]


def _next_step(said: str, port: str) -> str:
    if Path(port).exists() and not os.access(port, os.R_OK | os.W_OK):
        return f"give yourself the right to use {port}, on Debian by joining the group dialout"
    if "raw repl" in said:
        return "press reset on the board and try again at once; without MicroPython on it, run `edgewise board flash`"
    if "in use" in said or "busy" in said:
        return f"close the program that has {port} open"
    return "check the cable, hold BOOT while you press reset, and try again"
