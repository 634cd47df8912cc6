"""The queue before the batches: fair, in order within a device, bounded."""

from cloud.ingest.fair import MAX_WAITING, RATE_PER_S, FairQueue
from cloud.ingest.mqtt import Delivery


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def message(number: int, qos: int = 1, size: int = 10) -> Delivery:
    return Delivery("t", bytes(size), number, qos, False)


def mids(taken: list[tuple[str, Delivery]]) -> list[tuple[str, int]]:
    return [(device, delivery.mid) for device, delivery in taken]


def test_a_quiet_device_does_not_wait_behind_a_flood():
    queue = FairQueue()
    for mid in range(1000):
        queue.offer("flood", message(mid))
    queue.offer("quiet", message(5000))
    assert mids(queue.take(4)) == [("flood", 0), ("quiet", 5000), ("flood", 1), ("flood", 2)]


def test_turns_go_on_where_the_last_batch_stopped():
    queue = FairQueue()
    for turn in range(3):
        for number, device in enumerate("abc"):
            queue.offer(device, message(10 * turn + number))
    assert mids(queue.take(2)) == [("a", 0), ("b", 1)]
    assert mids(queue.take(3)) == [("c", 2), ("a", 10), ("b", 11)]
    assert mids(queue.take(9)) == [("c", 12), ("a", 20), ("b", 21), ("c", 22)]


def test_the_order_within_a_device_is_kept():
    queue = FairQueue()
    for mid in range(50):
        queue.offer("a", message(mid))
        queue.offer("b", message(100 + mid))
    taken = [pair for _ in range(11) for pair in mids(queue.take(9))] + mids(queue.take(9))
    for device, first in (("a", 0), ("b", 100)):
        assert [mid for name, mid in taken if name == device] == list(range(first, first + 50))


def test_size_and_bytes_follow():
    queue = FairQueue()
    for mid in range(5):
        queue.offer("a", message(mid, size=100))
    queue.take(2)
    assert (queue.size, queue.bytes) == (3, 300)
    queue.take(9)
    assert (queue.size, queue.bytes) == (0, 0)


def test_a_device_beyond_its_allowance_is_shed_until_time_passes():
    clock = Clock()
    queue = FairQueue(clock, burst=10)
    assert [queue.offer("flood", message(mid)) for mid in range(12)] == [True] * 10 + [False] * 2
    assert queue.offer("other", message(50))
    clock.now = 3 / RATE_PER_S
    assert [queue.offer("flood", message(mid)) for mid in range(60, 64)] == [True] * 3 + [False]


def test_a_message_delivered_again_while_it_waits_is_queued_once():
    queue = FairQueue()
    queue.offer("a", message(7))
    assert queue.offer("a", message(7))
    (pair,) = queue.take(9)
    assert queue.offer("a", message(7))  # it is being written
    assert queue.size == 0
    queue.done([pair[1]])
    queue.offer("a", message(7))  # the next message with this packet id
    assert queue.size == 1


def test_messages_the_broker_does_not_bound_are_bounded_here():
    queue = FairQueue(burst=10 * MAX_WAITING)
    accepted = sum(queue.offer(f"d{mid % 50}", message(mid, qos=0)) for mid in range(MAX_WAITING + 500))
    assert accepted == queue.size == MAX_WAITING


def test_allowances_of_silent_devices_are_forgotten():
    clock = Clock()
    queue = FairQueue(clock)
    for number in range(1000):
        queue.offer(f"d{number}", message(number))
    clock.now = 100.0
    queue.offer("d0", message(1000))
    assert len(queue._allowance) == 1
