"""A backup is a data folder: the same records, artifacts and logins, of one moment, or nothing."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cloud.backup import back_up, backup
from cloud.broker import device_password
from cloud.errors import BadSettings
from cloud.settings import admin_token, load_settings
from cloud.store.tables import devices
from model_export.keys import PublisherKey
from tests.support.artifacts import digest, make, new_key
from tests.support.fleet import Fleet, settings_in
from tests.support.web import Web


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """One board of a server that does not run."""
    (tmp_path / "data").mkdir()
    made = Fleet(settings_in(tmp_path / "data"))
    made.add("pump-1")
    return made


def test_boards_log_in_to_the_copy_and_its_owner_changes_it(fleet: Fleet, tmp_path: Path):
    token, password = admin_token(fleet.settings), device_password(fleet.settings, "pump-1", 1)
    back_up(fleet.settings, tmp_path / "copy")
    copy = load_settings({}, data_dir=tmp_path / "copy")
    assert (admin_token(copy), device_password(copy, "pump-1", 1)) == (token, password)
    assert copy.secret_path.stat().st_mode & 0o077 == 0
    assert copy.data_dir.stat().st_mode & 0o077 == 0


def test_records_and_artifacts_are_in_the_copy(fleet: Fleet, tmp_path: Path, free_port: Callable[[], int]):
    key: PublisherKey = new_key()
    data = make(key, "kept")
    with Web(fleet.settings, free_port()) as web:
        web.admin.post("/api/v1/keys", json={"public_key": key.public.hex(), "label": "tests"})
        web.publish(data)
        back_up(fleet.settings, tmp_path / "copy")
    copied = Fleet(load_settings({}, data_dir=tmp_path / "copy"))
    assert [row["device"] for row in copied.rows(sa.select(devices))] == ["pump-1"]
    assert data in [path.read_bytes() for path in (tmp_path / "copy" / "blobs").rglob(f"*{digest(data)[4:]}*")]


def test_what_is_not_committed_is_not_in_the_copy(fleet: Fleet, tmp_path: Path):
    with closing(sqlite3.connect(fleet.settings.data_dir / "edgewise.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM devices")
        back_up(fleet.settings, tmp_path / "copy")
        writer.execute("ROLLBACK")
    copied = Fleet(load_settings({}, data_dir=tmp_path / "copy"))
    assert len(copied.rows(sa.select(devices))) == 1


def test_a_backup_is_never_overwritten_and_one_that_fails_leaves_nothing(fleet: Fleet, tmp_path: Path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(BadSettings, match="exists; name a new folder"):
        back_up(fleet.settings, tmp_path / "copy")
    (fleet.settings.data_dir / "edgewise.db").write_bytes(b"no database, and long enough to be looked at" * 30)
    with pytest.raises(BadSettings, match="cannot be copied"):
        back_up(fleet.settings, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


def test_what_cannot_be_copied_is_said_with_what_to_do(fleet: Fleet, tmp_path: Path):
    nothing = CliRunner().invoke(backup, [str(tmp_path / "copy"), "--data", str(tmp_path / "nothing")])
    assert (nothing.exit_code, "holds no database; name the data folder" in nothing.output) == (1, True)
    elsewhere = load_settings({"EDGEWISE_DATABASE_URL": "postgresql://host/edgewise"}, data_dir=tmp_path / "data")
    with pytest.raises(BadSettings, match="pg_dump, then copy broker-secret, admin-token and blobs"):
        back_up(elsewhere, tmp_path / "copy")
