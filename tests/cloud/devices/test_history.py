"""What a board's records say of a stretch of time, of both databases."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.devices import history
from cloud.devices.history import History, read_history
from cloud.errors import BadRequest
from tests.support.messages import event, hello, ramp, readings
from tests.support.store import BOARD, NOW_MS, Store


def test_more_than_one_answer_holds_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "MAX_RECORDS", 2)

    async def read(engine: AsyncEngine) -> History:
        async with engine.connect() as connection:
            return await read_history(connection, BOARD, 0, 2 * NOW_MS)

    store.write(hello(), readings(0, ramp(3)), readings(3, ramp(3)), event(0))
    found = store.run(read)
    assert [(batch.rows, batch.last_ms - batch.first_ms) for batch in found.batches] == [(3, 2000), (3, 2000)]
    assert len(found.events) == 1
    store.write(readings(6, ramp(3)))
    with pytest.raises(BadRequest, match="more than 2 records"):
        store.run(read)
