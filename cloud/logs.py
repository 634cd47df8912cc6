"""Logging of the long-running processes: one line per event, key=value after the message, never a message body.

Everything from the configured level on goes to a file of bounded size in the data folder; warnings also to stderr.
"""

from __future__ import annotations

import logging
import sys
import time
from logging.handlers import RotatingFileHandler

from cloud.settings import Settings

_FILE_BYTES = 5_000_000
_FILES = 2


class _Line(logging.Formatter):
    """`2026-01-31T12:00:00.123Z WARNING ingest message`; a traceback follows on its own lines."""

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def set_up_logging(settings: Settings, service: str) -> None:
    """Sends the root logger's records to `DIR/<service>.log` (two files of 5 MB at most) and warnings to stderr."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    line = _Line("%(asctime)s %(levelname)s %(name)s %(message)s")
    file = RotatingFileHandler(
        settings.data_dir / f"{service}.log", maxBytes=_FILE_BYTES, backupCount=_FILES - 1, encoding="utf-8"
    )
    file.setFormatter(line)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(line)
    terminal.setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [file, terminal]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
