"""Moves every rollout that is under way, once a second. Several at once do no harm: each move is one transaction."""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from cloud.errors import EdgewiseError
from cloud.rollouts.service import Rollouts

_log = logging.getLogger(__name__)

_PERIOD_S = 1.0


async def keep_moving(rollouts: Rollouts) -> None:
    """Runs until cancelled. A rollout that cannot be moved now is tried again; the others go on."""
    while True:
        try:
            for rollout in await rollouts.active():
                await _move(rollouts, rollout)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("rollouts wait: %s", error)
        await asyncio.sleep(_PERIOD_S)


async def _move(rollouts: Rollouts, rollout: int) -> None:
    try:
        await rollouts.step(rollout)
    except (SQLAlchemyError, OSError):
        raise
    except EdgewiseError as error:
        _log.error("rollout %d cannot be moved: %s", rollout, error)
    except Exception:  # noqa: BLE001 - the others can be moved, and nobody would start this again
        _log.exception("rollout %d cannot be moved", rollout)
