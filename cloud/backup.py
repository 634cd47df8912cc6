"""`edgewise backup`: a data folder that can be used again, taken while the server runs."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import click
from sqlalchemy.engine import make_url

from cloud.cli import said_plainly, show
from cloud.errors import BadSettings
from cloud.settings import Settings, load_settings

_FILE = "file://"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="Data folder (EDGEWISE_DATA_DIR, else ./edgewise-data).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(folder: Path, data: str | None, as_json: bool) -> None:
    """Copy database, artifacts and secrets into FOLDER, which is made; the server may run meanwhile.

    FOLDER is a data folder: `edgewise up --data FOLDER` runs on it. Its secrets let boards log in and change things.
    """
    with said_plainly():
        done = back_up(load_settings(data_dir=data), folder)
    show(as_json, done)


def back_up(settings: Settings, folder: Path) -> dict[str, object]:
    """Makes `folder` a copy of the data folder, as a whole or not at all; returns what is in it.

    Left out are logs and what waits in the broker: boards send again what was not acknowledged. Raises BadSettings for
    a folder that exists, a data folder without a database, and one whose database is not SQLite.
    """
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        secrets = f"{settings.secret_path.name}, {settings.token_path.name} and blobs of {settings.data_dir}"
        raise BadSettings("the database is PostgreSQL", f"take it with pg_dump, then copy {secrets}")
    if not Path(url.database).is_file():
        raise BadSettings(f"{settings.data_dir} holds no database", "name the data folder of a server with --data")
    if folder.exists():
        raise BadSettings(f"{folder} exists", "name a new folder, a backup is never overwritten")
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
        # The database first: an artifact it names was stored before, and an artifact never changes.
        _copy_database(Path(url.database), draft / "edgewise.db")
        blobs = Path(settings.blobs_url.removeprefix(_FILE)) if settings.blobs_url.startswith(_FILE) else None
        if blobs is not None and blobs.is_dir():
            shutil.copytree(blobs, draft / "blobs")
        for secret in (settings.secret_path, settings.token_path):
            if secret.exists():
                shutil.copy2(secret, draft)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"backup": str(folder), "bytes": size, "artifacts": "copied" if blobs else f"stay in {settings.blobs_url}"}


def _copy_database(source: Path, target: Path) -> None:
    """A copy of one moment, by SQLite itself: beside the file there is a log of what is not in it yet."""
    try:
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy)
    except sqlite3.Error as error:
        raise BadSettings(f"{source} cannot be copied: {error}", "see that the disk of the backup has room") from None
