"""The broker in virtual time says what MQTT 3.1.1 says, byte for byte."""

import pytest

from tools.scenario.broker import Broker, NotMqtt, packet


def text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()


def connect(clean: bool = False, will: bytes | None = None) -> bytes:
    flags = (2 if clean else 0) | (0x24 if will is not None else 0)
    body = text("MQTT") + bytes((4, flags, 0, 30)) + text("pump-1")
    if will is not None:
        body += text("ew/1/pump-1/state") + len(will).to_bytes(2) + will
    return packet(0x10, body)


def subscribe(*topics: str) -> bytes:
    return packet(0x82, b"\0\7" + b"".join(text(topic) + b"\0" for topic in topics))


def publish(topic: str, payload: bytes, retain: bool = False, pid: int = 0) -> bytes:
    first = 0x30 | (2 if pid else 0) | retain
    return packet(first, text(topic) + (pid.to_bytes(2) if pid else b"") + payload)


@pytest.fixture
def heard() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def broker(heard: list[tuple[str, bytes]]) -> Broker:
    return Broker(lambda topic, payload: heard.append((topic, payload)))


def test_a_session_is_kept_unless_it_is_to_be_clean(broker: Broker):
    assert broker.take(connect()) == b"\x20\2\0\0"
    assert broker.take(subscribe("a")) == b"\x90\3\0\7\0"
    broker.take(b"\xe0\0")
    assert broker.take(connect()) == b"\x20\2\1\0"
    broker.take(b"\xe0\0")
    assert broker.take(connect(clean=True)) == b"\x20\2\0\0"


def test_retained_messages_come_with_the_subscription(broker: Broker):
    assert broker.publish("a", b"old", retain=True) == b""
    broker.take(connect())
    assert broker.take(subscribe("a", "b")) == b"\x90\4\0\7\0\0" + publish("a", b"old", retain=True)
    assert broker.publish("a", b"new", retain=True) == publish("a", b"new")
    assert broker.publish("c", b"not asked for", retain=False) == b""


def test_a_publish_is_confirmed_and_handed_on(broker: Broker, heard: list[tuple[str, bytes]]):
    broker.take(connect())
    long = bytes(300)
    assert broker.take(publish("up", long, pid=9) + publish("up", b"2")) == b"\x40\2\0\x09"
    assert heard == [("up", long), ("up", b"2")]


def test_packets_may_come_in_pieces(broker: Broker, heard: list[tuple[str, bytes]]):
    whole = connect() + publish("up", bytes(200), pid=1) + b"\xc0\0"
    answers = b"".join(broker.take(whole[at : at + 1]) for at in range(len(whole)))
    assert answers == b"\x20\2\0\0\x40\2\0\1\xd0\0"
    assert heard == [("up", bytes(200))]


def test_the_will_is_published_after_a_loss_and_not_after_a_goodbye(broker: Broker, heard: list[tuple[str, bytes]]):
    broker.take(connect(will=b"0"))
    broker.take(b"\xe0\0")
    broker.lose()
    assert heard == []
    broker.take(connect(will=b"0"))
    broker.lose()
    assert heard == [("ew/1/pump-1/state", b"0")]
    assert broker.retained == {"ew/1/pump-1/state": b"0"}
    assert broker.publish("x", b"", retain=False) == b""


@pytest.mark.parametrize("data", [b"\xc0\0", connect() + b"\xf0\0"])
def test_what_no_client_sends_is_refused(broker: Broker, data: bytes):
    with pytest.raises(NotMqtt):
        broker.take(data)
