"""`python -m cloud.ingest`: the ingest process, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from cloud.ingest.service import Ingest
from cloud.logs import set_up_logging
from cloud.settings import Settings, load_settings
from cloud.store.engine import make_engine

_T = TypeVar("_T")


async def _run(settings: Settings) -> None:
    engine = make_engine(settings)
    ingest = Ingest(settings, engine)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ingest.stop)
    try:
        await ingest.run()
    finally:
        await engine.dispose()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """asyncio.run on the event loop of ingest: uvloop, which has less to do for each message, where it exists."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


def tune() -> None:
    """Collects garbage less often: batches make many objects and no cycles to speak of.

    With the defaults it is a sixth of the processor time of a full load (measured).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def main() -> None:
    """Runs it; anything that ends it otherwise leaves a traceback in the log, and the supervisor starts it again."""
    settings = load_settings()
    tune()
    set_up_logging(settings, "ingest")
    try:
        run(_run(settings))
    except Exception:
        logging.getLogger("ingest").exception("ended by a fault")
        raise


if __name__ == "__main__":
    main()
