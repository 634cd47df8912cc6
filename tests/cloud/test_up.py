"""What `edgewise up` says of a folder, an address or a store it cannot use: cause and next step, no traceback."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from cloud.errors import BadSettings
from cloud.processes import owned, with_free_ports
from cloud.settings import load_settings
from cloud.up import prepare


def refused(folder: Path, **environ: str) -> str:
    """What preparing the folder is refused with."""
    with pytest.raises(BadSettings) as error:
        asyncio.run(prepare(load_settings(environ, data_dir=folder)))
    assert error.value.next_step
    return str(error.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(BadSettings, match=f"the data folder {folder} cannot be used"),
            owned(load_settings({}, data_dir=folder)),
        ):
            pass


@pytest.mark.parametrize(
    ("environ", "cause"),
    [
        ({"EDGEWISE_HOST": "no such host"}, "cannot listen on 'no such host'.*correct EDGEWISE_HOST"),
        ({"EDGEWISE_MQTT_HOST": "192.0.2.1"}, "cannot listen on '192.0.2.1'.*correct --mqtt-host"),
        ({"EDGEWISE_HOST": "0.0.0.0"}, "boards cannot connect to 0.0.0.0; .* --mqtt-host"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_named(tmp_path: Path, environ: dict[str, str], cause: str):
    free = {"EDGEWISE_HTTP_PORT": "0", "EDGEWISE_MQTT_PORT": "0"}
    with pytest.raises(BadSettings, match=cause):
        with_free_ports(load_settings(environ | free, data_dir=tmp_path))


def test_a_file_that_is_no_database_is_named(tmp_path: Path):
    (tmp_path / "edgewise.db").write_bytes(b"not a database, and long enough to be looked at" * 30)
    assert "edgewise.db cannot be used: file is not a database" in refused(tmp_path)


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path):
    asyncio.run(prepare(load_settings({}, data_dir=tmp_path)))
    with sqlite3.connect(tmp_path / "edgewise.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "written by a newer release" in refused(tmp_path)
    with sqlite3.connect(tmp_path / "edgewise.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path):
    pytest.importorskip("asyncpg", reason="the extra postgres is not installed: make setup")
    said = refused(tmp_path, EDGEWISE_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/edgewise")
    assert "127.0.0.1:1/edgewise cannot be used" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("name", "url"),
    [("EDGEWISE_DATABASE_URL", "nonsense"), ("EDGEWISE_BLOBS_URL", "nonsense"), ("EDGEWISE_BLOBS_URL", "x://y")],
)
def test_an_address_of_no_store_is_refused_by_the_name_of_its_setting(tmp_path: Path, name: str, url: str):
    assert name in refused(tmp_path, **{name: url})
