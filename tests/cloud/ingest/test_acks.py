"""The ACK repeats what still matters, also after a restart."""

from cloud import wire_types as w
from cloud.ingest.acks import Acks
from cloud.ingest.writer import Writer
from cloud.store.engine import make_engine
from contract import wire
from tests.support.messages import event, hello, item, ramp, readings
from tests.support.store import BOARD, NOW_MS, Store


def acknowledged(store: Store, *batches: list, restart_between: bool = False) -> w.Ack:
    """The ACK after these batches."""

    async def work(_engine) -> bytes:
        engine = make_engine(store.settings)
        acks, payload = Acks(engine), b""
        for batch in batches:
            if restart_between:
                acks = Acks(engine)
            outcome = await Writer(engine).write([item(BOARD, message) for message in batch], NOW_MS)
            await acks.note(outcome.acks, outcome.hellos)
            payload = acks.message(BOARD, 0, NOW_MS)
        await engine.dispose()
        return payload

    ack = w.decode_downlink(store.run(work))
    assert isinstance(ack, w.Ack)
    return ack


def test_an_ack_says_what_comes_next_in_every_stream(store: Store):
    ack = acknowledged(store, [event(0), event(1), readings(0, ramp(10))])
    assert ack == w.Ack(NOW_MS, ((1, 2, 0, 0, 0, 10),), 0, 0)


def test_streams_acknowledged_before_are_repeated(store: Store):
    ack = acknowledged(store, [event(0), event(1)], [readings(0, ramp(10))])
    assert ack.acks == ((1, 2, 0, 0, 0, 10),)


def test_a_restart_forgets_nothing(store: Store):
    batches = [[event(0), event(1)], [readings(0, ramp(10))], [event(0, epoch=2)]]
    ack = acknowledged(store, *batches, restart_between=True)
    assert ack.acks == ((1, 2, 0, 0, 0, 10), (2, 1, 0, 0, 0, 0))


def test_the_newest_epoch_and_those_of_late_are_named_newest_last(store: Store):
    batches = [[event(0, epoch=number)] for number in (9, 3, 4, 5, 6)]
    ack = acknowledged(store, *batches)
    assert [entry[0] for entry in ack.acks] == [4, 5, 6, 9]
    assert len(ack.acks) == wire.MAX_ACKS


def test_after_a_restart_an_old_epoch_that_is_drained_is_named(store: Store):
    batches = [[event(0, epoch=number)] for number in (1, 5, 6, 7, 8, 9)]
    acknowledged(store, *batches)
    ack = acknowledged(store, [event(1, epoch=1)])
    assert ack.acks[0] == (1, 2, 0, 0, 0, 0)
    assert ack.acks[-1][0] == 9


def test_a_hello_alone_is_answered(store: Store):
    ack = acknowledged(store, [hello(epoch=4)])
    assert ack.acks == ((4, 0, 0, 0, 0, 0),)


def test_a_wiped_board_learns_of_the_epochs_it_has_forgotten(store: Store):
    ack = acknowledged(store, [event(0, epoch=12)], [hello(epoch=1)])
    assert ack.acks[-1][0] == 12


def test_an_ack_names_the_latest_hello_whenever_it_came(store: Store):
    assert acknowledged(store, [event(0, epoch=4)]).heard_ms == 0
    assert acknowledged(store, [hello(epoch=4, t_ms=700)]).heard_ms == 700
    assert acknowledged(store, [event(1, epoch=4)], restart_between=True).heard_ms == 700
    assert acknowledged(store, [hello(epoch=4, t_ms=300)]).heard_ms == 700
    assert acknowledged(store, [hello(epoch=4, t_ms=900), hello(epoch=4, t_ms=800)]).heard_ms == 900


def test_a_hello_of_an_epoch_before_is_none_of_the_newest(store: Store):
    ack = acknowledged(store, [hello(epoch=4, t_ms=700)], [event(0, epoch=5)])
    assert (ack.acks[-1][0], ack.heard_ms) == (5, 0)
