"""Boards at the end of a serial line: real esptool and mpremote, and a stand-in for the hardware only."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec

from model_export import keys
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.tools.repl_board import ReplBoard
from tests.tools.rom_loader import RomLoader
from tests.tools.test_chips import image_for
from tools import board
from tools.board_cli import board as board_command
from tools.chips import CHIPS, WrongImage
from tools.firmware import add_native, compile_file, firmware_files
from tools.scenario.program import beside

SCHEMA = "v1;w=8;c=flow:l/s:100;f=mean,min,max"
CONFIG = {
    "device": "desk-1",
    "kind": "pump",
    "schema": SCHEMA,
    "broker": {"host": "192.0.2.1", "port": 1883},
    "wifi": {"ssid": "desk", "password": "secret"},
    "sensor": {"driver": "replay", "file": "recording.bin"},
}


@pytest.fixture
def repl_board(tmp_path: Path, micropython: str, umqtt_path: str):
    with ReplBoard(micropython, tmp_path, umqtt_path) as on_the_desk:
        yield on_the_desk


@pytest.fixture
def publisher(tmp_path: Path) -> PublisherKey:
    """The key the board trusts."""
    return keys.create(tmp_path / "keys", "main")


@pytest.fixture
def config(tmp_path: Path, publisher: PublisherKey) -> Path:
    path = tmp_path / "config.json"
    (tmp_path / "recording.bin").write_bytes(b"EWS1")
    trusted = {publisher.key_id.hex(): publisher.public.hex()}
    path.write_text(json.dumps(CONFIG | {"trusted_keys": trusted}))
    return path


@pytest.fixture
def write_artifact(tmp_path: Path, publisher: PublisherKey):
    """Writes an artifact of a small model for x64; keywords change its manifest, `key` its publisher."""

    def write(name: str = "model.ewa", key: PublisherKey = publisher, **changes: Any) -> Path:
        path = tmp_path / name
        fields: dict[str, Any] = {"schema": SCHEMA} | changes
        path.write_bytes(forge.sound(key, 7, **fields))
        return path

    return write


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.bin"
    path.write_bytes(image_for(CHIPS["ESP32-C3"]))
    return path


@pytest.mark.parametrize("name", ["ESP32", "ESP32-C3"])
def test_flash_writes_the_image_where_the_chip_starts_it(tmp_path: Path, name: str):
    chip = CHIPS[name]
    data = image_for(chip)
    (tmp_path / "image.bin").write_bytes(data)
    with RomLoader(name) as rom:
        assert board.flash(rom.port, tmp_path / "image.bin", erase=False, shown=False) == chip
    assert rom.flash[chip.image_at : chip.image_at + len(data)] == data
    assert not rom.erased


def test_flash_with_erase_clears_the_whole_chip_first(image: Path):
    with RomLoader("ESP32-C3") as rom:
        board.flash(rom.port, image, erase=True, shown=False)
    assert rom.erased


def test_image_for_another_chip_is_refused_before_anything_is_written(image: Path):
    with RomLoader("ESP32") as rom, pytest.raises(WrongImage, match="for ESP32-C3, the chip on the port is ESP32"):
        board.flash(rom.port, image, erase=True, shown=False)
    assert not rom.erased
    assert set(rom.flash) == {0xFF}


def test_line_where_nothing_answers_ends_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(board.BoardError) as refused:
        board.detect_chip(f"socket://127.0.0.1:{silent.getsockname()[1]}")
    assert "Failed to connect to Espressif device" in refused.value.cause
    assert "hold BOOT" in refused.value.next_step


def test_board_without_micropython_is_told_to_flash_one():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(board.BoardError) as refused:
        board.probe(f"socket://127.0.0.1:{silent.getsockname()[1]}")
    assert refused.value.cause.endswith("could not enter raw repl")
    assert "edgewise board flash" in refused.value.next_step


def test_deploy_puts_exactly_the_compiled_firmware_and_the_configuration_on_the_board(
    repl_board: ReplBoard, config: Path, tmp_path: Path
):
    done = board.deploy(repl_board.port, config, [])

    expected = {"config.json": config.read_bytes(), "recording.bin": b"EWS1"}
    for file in firmware_files("x64"):
        expected[file.target] = compile_file(file, tmp_path / "expected", "x64").read_bytes()
    native = add_native(tmp_path / "expected", "x64")
    if native:
        expected[native.target] = native.source.read_bytes()
    on_board = {
        path.relative_to(repl_board.files).as_posix(): path.read_bytes()
        for path in repl_board.files.rglob("*")
        if path.is_file()
    }
    assert on_board == expected
    assert (done.arch, done.files, done.removed) == ("x64", len(expected) - 2, 0)


def test_deploy_takes_along_the_authority_that_the_configuration_names(repl_board: ReplBoard, config: Path):
    config.write_text(json.dumps(CONFIG | {"broker": {"host": "192.0.2.1", "port": 8883, "ca": "plant.der"}}))
    (config.parent / "plant.der").write_bytes(b"\x30\x82")
    board.deploy(repl_board.port, config, [])
    assert (repl_board.files / "plant.der").read_bytes() == b"\x30\x82"


def test_deploy_removes_modules_of_an_earlier_release_and_keeps_what_the_board_made(
    repl_board: ReplBoard, config: Path
):
    for name in ("device/cycle.py", "contract/gone.mpy", "outbox/0.seg", "epoch.0"):
        (repl_board.files / name).parent.mkdir(exist_ok=True)
        (repl_board.files / name).write_bytes(b"x")
    assert board.deploy(repl_board.port, config, []).removed == 2
    assert not (repl_board.files / "device/cycle.py").exists()
    assert not (repl_board.files / "contract/gone.mpy").exists()
    assert (repl_board.files / "outbox/0.seg").exists()
    assert (repl_board.files / "epoch.0").exists()


def test_a_board_that_sleeps_is_restarted_and_asked_again(config: Path, monkeypatch: pytest.MonkeyPatch):
    """On a chip the lines that esptool pulls restart it, and it stays awake for three seconds after that."""
    steps: list[str] = []
    asleep = board.BoardError("program-failed", "mpremote on p failed: could not enter raw repl", "press reset")

    def probe(_port: str) -> board.Running:
        steps.append("probe")
        if steps == ["probe"]:
            raise asleep
        raise board.BoardError("no-answer", "far enough", "")

    def restart(_port: str) -> None:
        steps.append("restart")

    monkeypatch.setattr(board, "probe", probe)
    monkeypatch.setattr(board, "detect_chip", restart)
    with pytest.raises(board.BoardError, match="far enough"):
        board.deploy("p", config, [])
    assert steps == ["probe", "restart", "probe"]
    steps.clear()
    monkeypatch.setattr(board, "detect_chip", board.choose_port)  # fails as a port does that is gone
    with pytest.raises(board.BoardError, match="could not enter raw repl"):
        board.deploy("p", config, [])


def test_deploy_restarts_the_board_at_the_end(repl_board: ReplBoard, config: Path):
    board.probe(repl_board.port)
    before = repl_board.starts
    board.deploy(repl_board.port, config, [])
    # one soft reset for the probe, one for the copy, and machine.reset()
    assert repl_board.wait_for_starts(before + 3)


def test_deploy_is_not_cut_short_by_the_watchdog_of_the_firmware_it_interrupts(
    tmp_path: Path, micropython: str, umqtt_path: str, config: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(board, "COPY_DEADLINE_S", 20)  # for a test that fails: mpremote waits on
    with ReplBoard(micropython, tmp_path, umqtt_path, watched=True) as on_the_desk:
        assert board.deploy(on_the_desk.port, config, []).files > 50


def test_firmware_in_the_image_is_seen_behind_files_of_an_earlier_release(tmp_path: Path, fast_wakes: Path | None):
    if fast_wakes is None:
        pytest.skip("no MicroPython with the firmware in it could be built here")
    (tmp_path / "contract").mkdir()
    (tmp_path / "contract/wire.py").write_text("raise ImportError")
    done = subprocess.run(
        [fast_wakes, board.ON_BOARD / "probe.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(done.stdout)["frozen"] is True


def test_the_ram_that_python_and_wifi_share_is_counted_once(tmp_path: Path, micropython: str, umqtt_path: str):
    """mem_free() of the ESP32 port contains the largest block of ESP-IDF (ports/esp32/gccollect.c)."""
    (tmp_path / "esp32.py").write_text(
        "HEAP_DATA = 4\ndef idf_heap_info(caps):\n return [(9, 5, 3, 1), (90, 70, 50, 9)]"
    )
    fake = "def mem_alloc():\n return 1000\ndef mem_free():\n return 200 + 50\ndef collect():\n pass\n"
    (tmp_path / "python.py").write_text(fake)
    text = (board.ON_BOARD / "probe.py").read_text().replace("import gc\n", "import python as gc\n")
    (tmp_path / "probe.py").write_text(text)
    environ = {"PATH": os.environ["PATH"], "MICROPYPATH": f"{tmp_path}:{umqtt_path}"}
    text = subprocess.run(
        [micropython, tmp_path / "probe.py"], env=environ, capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert json.loads(text)["ram"] == 1000 + 200 + 75


def test_files_leave_a_board_whose_image_has_the_firmware(
    tmp_path: Path, micropython: str, umqtt_path: str, config: Path, write_artifact, monkeypatch: pytest.MonkeyPatch
):
    """They would win over it, and so would the empty folders they leave. The image: a folder behind the flash."""
    probe = board.probe
    monkeypatch.setattr(board, "probe", lambda port: probe(port)._replace(frozen=True))
    with ReplBoard(micropython, tmp_path, f"{umqtt_path}:{beside().path}") as on_the_desk:
        for name in ("contract/wire.py", "device/board/esp32.mpy", "epoch.0"):
            (on_the_desk.files / name).parent.mkdir(parents=True, exist_ok=True)
            (on_the_desk.files / name).write_bytes(b"an earlier release")
        done = board.deploy(on_the_desk.port, config, [write_artifact()])
        assert (done.files, done.removed, done.artifact) == (0, 2, "model.ewa")
        kept = {path.name for path in on_the_desk.files.iterdir()}
        assert {"config.json", "epoch.0", "models"} <= kept
        assert not kept & {"contract", "device", "main.py"}


def test_board_installs_a_model_that_came_over_the_cable_and_starts_its_trial(repl_board, config, write_artifact):
    done = board.deploy(repl_board.port, config, [write_artifact()])
    assert done.artifact == "model.ewa"
    assert (repl_board.files / "models/a/slot_a.mpy").exists()
    assert not (repl_board.files / board.MODEL_FILE).exists()
    # Once more: the board has it, and says so instead of installing it a second time.
    assert board.deploy(repl_board.port, config, [write_artifact()]).artifact == "model.ewa"
    assert not (repl_board.files / "models/b").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": PublisherKey("stranger", ec.generate_private_key(ec.SECP256R1()))}, "unknown key"),
        ({"schema": "v1;w=9;c=flow:l/s:100;f=mean,min,max"}, "feature schema mismatch"),
        ({"min_contract": 200}, "contract too new"),
    ],
)
def test_board_refuses_over_the_cable_what_it_refuses_over_the_air(
    repl_board, config, write_artifact, changes: dict, reason: str
):
    with pytest.raises(board.BoardError) as refused:
        board.deploy(repl_board.port, config, [write_artifact(**changes)])
    assert refused.value.code == "refused"
    assert reason in refused.value.cause
    assert (repl_board.files / "main.py").exists()
    assert not (repl_board.files / board.MODEL_FILE).exists()


def test_artifact_for_the_boards_processor_is_chosen_and_native_before_a_table(write_artifact):
    c3 = write_artifact("c3.ewa", arch="rv32imc")
    s3 = write_artifact("s3.ewa", arch="xtensawin")
    table = write_artifact("table.ewa", arch="any", abi=0, format="blob")
    assert board.choose_artifact([table, c3, s3], "rv32imc") == c3
    assert board.choose_artifact([table, c3], "xtensawin") == table
    with pytest.raises(board.BoardError) as refused:
        board.choose_artifact([c3], "xtensawin")
    assert refused.value.code == "wrong-arch"
    assert "c3.ewa is native for rv32imc" in refused.value.cause


def test_file_that_is_no_artifact_is_refused(tmp_path: Path):
    (tmp_path / "model.ewa").write_bytes(b"EWA1 and then nothing")
    with pytest.raises(board.BoardError) as refused:
        board.choose_artifact([tmp_path / "model.ewa"], "x64")
    assert refused.value.code == "bad-artifact"


def test_deploy_refuses_a_configuration_without_a_device(repl_board: ReplBoard, tmp_path: Path):
    broken = tmp_path / "broken.json"
    for text in ("", "[]", "{}", "nonsense"):
        broken.write_text(text)
        with pytest.raises(board.BoardError) as refused:
            board.deploy(repl_board.port, broken, [])
        assert refused.value.code == "bad-config"
    assert list(repl_board.files.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"sensor": {"driver": "sonar"}}, "sensor.driver must be replay, adc"),
        ({"sensor": {"driver": "lis3dh"}}, "schema lis3dh measures acceleration"),
        ({"sensor": {"driver": "adc", "pin": 4}}, "sensor.pin is not a setting of adc"),
        ({"schema": "v1;w=8"}, "lacks c="),
        ({"wake_line": "up"}, "wake_line must be high or low, is 'up'"),
        ({"wifi": {"ssid": "desk"}}, "wifi must be"),
        ({"broker": {"host": "127.0.0.1", "port": 1883}}, "run `edgewise up --mqtt-host`"),
        ({"broker": "192.0.2.1"}, "broker must be what `edgewise device add` prints"),
        ({"broker": {"host": "192.0.2.1", "port": 1, "ca": "none.der"}}, "broker.ca names 'none.der'"),
        ({"broker": {"host": "192.0.2.1", "port": 1, "ca": "../a.der"}}, "broker.ca names '../a.der'"),
        ({"broker": {"host": "192.0.2.1", "port": 1, "ca": "ca.pem"}}, "broker.ca is not in DER"),
        ({"sensor": {"driver": "replay", "file": "none.bin"}}, "sensor.file names 'none.bin'"),
    ],
)
def test_deploy_refuses_a_configuration_that_no_board_could_run_with(
    repl_board: ReplBoard, tmp_path: Path, change: dict[str, object], cause: str
):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG | change))
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    with pytest.raises(board.BoardError) as refused:
        board.deploy(repl_board.port, config, [])
    assert refused.value.code == "bad-config"
    assert cause in refused.value.cause
    assert list(repl_board.files.iterdir()) == []


@pytest.fixture
def login(tmp_path: Path) -> Path:
    """What `edgewise device add` prints."""
    broker = {"host": "192.0.2.1", "port": 1883, "user": "desk-1", "password": "p"}
    path = tmp_path / "login.json"
    path.write_text(json.dumps({"device": "desk-1", "kind": "pump", "broker": broker, "first_epoch": 3}))
    return path


def make_config(login: Path, own: dict[str, Any], *options: str) -> Result:
    """`edgewise board config` with `own` as the board's own settings, into config.json beside the login."""
    (login.parent / "own.json").write_text(json.dumps(own))
    words = ["config", "--login", str(login), "--with", str(login.parent / "own.json")]
    out = str(login.parent / "made.json")
    return CliRunner().invoke(board_command, [*words, "--keys", str(login.parent / "keys"), "--out", out, *options])


def test_login_own_settings_and_trusted_keys_become_a_configuration(login: Path, publisher: PublisherKey):
    own = {name: CONFIG[name] for name in ("wifi", "schema", "sensor")} | {"broker": {"port": 8883}}
    done = make_config(login, own, "--trust", "main")
    assert done.exit_code == 0, done.output
    made = login.parent / "made.json"
    assert made.stat().st_mode & 0o077 == 0
    config = json.loads(made.read_text())
    assert config["trusted_keys"] == {publisher.key_id.hex(): publisher.public.hex()}
    assert config["broker"] == {"host": "192.0.2.1", "port": 8883, "user": "desk-1", "password": "p"}
    assert config["first_epoch"] == 3
    again = make_config(login, own)
    assert (again.exit_code, "made.json exists" in again.output) == (1, True)


def test_configuration_that_no_board_could_run_with_is_not_written(login: Path):
    for own, cause in (({}, "`schema` and `sensor`"), ({"schema": SCHEMA, "sensor": {"driver": "x"}}, "sensor.driver")):
        refused = make_config(login, own)
        assert (refused.exit_code, cause in refused.output) == (1, True), refused.output
    login.write_text("[]")
    assert "--login must be what `edgewise device add` prints" in make_config(login, {}).output
    assert not (login.parent / "made.json").exists()


def test_micropython_that_cannot_load_the_firmware_is_refused():
    fine = board.Running("rv32imc", 6, 3, "ESP32C3 module", has_umqtt=True, frozen=False, ram=280_000)
    assert board.check_running(fine) == "rv32imc"
    for change, code in (
        ({"mpy_sub_version": 2}, "wrong-abi"),
        ({"mpy_version": 5}, "wrong-abi"),
        ({"arch": None}, "wrong-arch"),
        ({"has_umqtt": False}, "no-umqtt"),
        ({"ram": 206_000}, "no-room"),  # what a plain ESP32 has under MicroPython 1.27, and a C3 under 1.22
    ):
        with pytest.raises(board.BoardError) as refused:
            board.check_running(fine._replace(**change))
        assert refused.value.code == code
    assert board.check_running(fine._replace(ram=206_000, frozen=True)) == "rv32imc"
    assert board.check_running(fine._replace(ram=None)) == "rv32imc"
    with pytest.raises(board.BoardError, match=r"write MicroPython 1\.25 or later"):
        board.check_running(fine._replace(arch=None))
    with pytest.raises(board.BoardError, match="take an ESP32"):
        board.check_running(fine._replace(arch=None, machine="micro:bit"))


def test_list_prints_json_for_programs():
    result = CliRunner().invoke(board_command, ["list", "--json"])
    assert result.exit_code == 0
    assert isinstance(json.loads(result.output), list)


def test_port_that_does_not_exist_is_an_error_with_a_next_step(config: Path):
    result = CliRunner().invoke(board_command, ["deploy", "--port", "/dev/ttyNONE", "--config", str(config)])
    assert result.exit_code == 1
    assert "/dev/ttyNONE does not exist; `edgewise board list` shows the ports" in result.output


def test_port_cannot_smuggle_an_option():
    with pytest.raises(board.BoardError):
        board.choose_port("--before")


def test_flash_reports_for_programs(image: Path):
    with RomLoader("ESP32-C3") as rom:
        result = CliRunner().invoke(board_command, ["flash", "--port", rom.port, "--image", str(image), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["chip"] == "ESP32-C3"
