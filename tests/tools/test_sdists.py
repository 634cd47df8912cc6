import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import pytest

from tools import sdists


class PackageIndex:
    """A package index on loopback with one sdist of the name and version that is asked for."""

    def __init__(self, folder: Path) -> None:
        module = b"class MQTTClient: pass\n"
        sdist = folder / "files" / "micropython-umqtt.simple-1.3.4.tar.gz"
        sdist.parent.mkdir()
        with tarfile.open(sdist, "w:gz") as tar:
            member = tarfile.TarInfo("micropython-umqtt.simple-1.3.4/umqtt/simple.py")
            member.size = len(module)
            tar.addfile(member, io.BytesIO(module))
        self.sha256 = hashlib.sha256(sdist.read_bytes()).hexdigest()
        page = folder / "simple/micropython-umqtt-simple/index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="/files/{sdist.name}">{sdist.name}</a>')

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/simple/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The only package index this machine is set up for, and nothing fetched yet."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "no.conf"))
    monkeypatch.setattr(sdists, "BUILD", tmp_path / "build")
    folder = tmp_path / "index"
    folder.mkdir()
    served = PackageIndex(folder)
    monkeypatch.setenv("PIP_INDEX_URL", served.address)
    yield served
    served.server.shutdown()
    served.server.server_close()


def wanted(index: PackageIndex, **changes: str) -> sdists.Sdist:
    """umqtt.simple as the test's index has it."""
    return sdists.UMQTT._replace(**({"sha256": index.sha256} | changes))


def test_module_comes_from_the_index_this_machine_is_set_up_for(index: PackageIndex):
    folder = sdists.fetch(wanted(index))
    assert (folder / "umqtt/simple.py").read_text() == "class MQTTClient: pass\n"


def test_second_fetch_asks_no_index(index: PackageIndex):
    first = sdists.fetch(wanted(index))
    index.server.shutdown()
    assert sdists.fetch(wanted(index)) == first


def test_file_with_another_hash_is_refused_and_not_kept(index: PackageIndex):
    with pytest.raises(sdists.Unavailable, match="Hash"):
        sdists.fetch(wanted(index, sha256="00" * 32))
    assert not sdists.is_here(sdists.UMQTT)


def test_index_that_does_not_answer_is_explained(index: PackageIndex, monkeypatch: pytest.MonkeyPatch):
    index.server.shutdown()
    index.server.server_close()
    with pytest.raises(sdists.Unavailable, match="Check that the package index"):
        sdists.fetch(wanted(index))


def test_index_without_the_package_is_explained(index: PackageIndex):
    with pytest.raises(sdists.Unavailable, match="no-such-package"):
        sdists.fetch(wanted(index, requirement="no-such-package==1.0"))


def test_only_a_package_nothing_works_without_fails_the_set_up(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sdists, "ALL", (wanted(index), sdists.ESP32_ULP))
    assert sdists.main() == 0
    assert "The ULP program that is here works, but cannot be changed" in capsys.readouterr().err
    monkeypatch.setattr(sdists, "ALL", (wanted(index, requirement="no-such-package==1.0", folder="other"),))
    assert sdists.main() == 1


def test_pip_configuration_counts_when_the_environment_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://main.example/s%20/\nextra-index-url =\n  https://a/\n  https://b/\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert sdists.configured_indexes() == (["https://main.example/s%20/"], ["https://a/", "https://b/"])
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example/")
    assert sdists.configured_indexes()[0] == ["https://uv.example/"]
