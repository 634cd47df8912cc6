"""FETCH is answered at a bounded rate for each board."""

from cloud import wire_types as w
from cloud.ingest.downlink import ARTIFACT_BYTES_PER_S, Chunks
from cloud.models.blobs import Blobs
from contract import wire
from tests.support.store import Store


def test_a_board_that_asks_too_fast_waits_and_others_do_not(store: Store):
    now = 0.0

    async def work(engine) -> list[bool]:
        nonlocal now
        chunks = Chunks(engine, Blobs(store.settings.blobs_url), clock=lambda: now)
        fetch = w.Fetch(bytes(8), 0, wire.MAX_CHUNK_BYTES)
        answered = [await chunks.answer("greedy", fetch) is not None for _ in range(18)]
        answered.append(await chunks.answer("modest", fetch) is not None)
        now = wire.MAX_CHUNK_BYTES / ARTIFACT_BYTES_PER_S
        answered += [await chunks.answer("greedy", fetch) is not None for _ in range(2)]
        return answered

    assert store.run(work) == [True] * 16 + [False] * 2 + [True] + [True, False]
