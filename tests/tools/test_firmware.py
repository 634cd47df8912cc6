import subprocess
from pathlib import Path

import pytest

from tools import firmware
from tools.firmware import ARCHS, CompileFailed, FirmwareFile, build, compile_file, firmware_files


@pytest.fixture
def source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A firmware folder of its own, so that a test can put anything into it."""
    monkeypatch.setattr(firmware, "FIRMWARE", tmp_path)
    (tmp_path / "contract").mkdir()
    (tmp_path / "device/board").mkdir(parents=True)
    return tmp_path


def targets(arch: str) -> set[str]:
    return {file.target for file in firmware_files(arch)}


def test_every_module_of_the_firmware_reaches_a_chip_or_is_named_as_an_exception():
    on_a_chip = {file.source for file in firmware_files("xtensawin")}
    left_out = {
        source.relative_to(firmware.FIRMWARE).as_posix()
        for folder in ("contract", "device")
        for source in (firmware.FIRMWARE / folder).rglob("*.py")
        if source not in on_a_chip
    }
    assert left_out == set(firmware.ONLY_ON_HOST + firmware.ONLY_FOR_GENERATORS)


def test_host_and_chip_differ_in_their_board_module_alone():
    assert targets("rv32imc") ^ targets("x64") == {"device/board/esp32.mpy", "device/board/host.mpy"}


def test_chips_differ_in_what_only_one_of_them_has():
    ulp = {name.removesuffix(".py") + ".mpy" for name in firmware.ONLY_ON_XTENSA}
    assert targets("xtensawin") - targets("rv32imc") == ulp
    assert targets("rv32imc") < targets("xtensawin")


def test_files_that_micropython_starts_by_name_stay_text(source_tree: Path):
    (source_tree / "boot.py").write_text("BOOTED = True\n")
    (source_tree / "main.py").write_text("import boot\n")
    (source_tree / "contract/wire.py").write_text("CODE = 1\n")
    assert targets("rv32imc") == {"boot.py", "main.py", "contract/wire.mpy"}
    built = build(source_tree / "out", "rv32imc")
    assert (source_tree / "out/main.py").read_text() == "import boot\n"
    assert [file.source for file in built] == [source_tree / "out" / file.target for file in built]


@pytest.mark.parametrize("name", ["main.py", "device/cycle.py"])
def test_syntax_that_micropython_lacks_is_refused_with_the_file_and_line(source_tree: Path, name: str):
    (source_tree / name).write_text("x = 1\nmatch x:\n    case 1:\n        pass\n")
    with pytest.raises(CompileFailed) as refused:
        build(source_tree / "out", "x64")
    assert refused.value.source == source_tree / name
    assert "line 2" in refused.value.reason


def test_build_leaves_nothing_of_an_earlier_build(source_tree: Path):
    stale = source_tree / "out/device/gone.mpy"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"x")
    build(source_tree / "out", "x64")
    assert not stale.exists()


def test_compiled_module_runs_and_names_no_path_of_this_machine(source_tree: Path, micropython: str):
    (source_tree / "contract/wire.py").write_text("def fail():\n    raise ValueError\n")
    file = FirmwareFile(source_tree / "contract/wire.py", "contract/wire.mpy")
    compiled = compile_file(file, source_tree / "out", "x64")
    assert str(source_tree).encode() not in compiled.read_bytes()
    done = subprocess.run(
        [micropython, "-c", "import contract.wire as w; w.fail()"],
        cwd=source_tree / "out",
        env={"PATH": "/usr/bin:/bin", "MICROPYPATH": "."},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert 'File "contract/wire.py", line 2' in done.stdout


def test_unknown_arch_is_refused_by_name():
    with pytest.raises(ValueError, match="avr"):
        firmware_files("avr")
    assert "x64" in ARCHS
