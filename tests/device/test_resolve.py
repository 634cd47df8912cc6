"""device/resolve.py against a real UDP name server, and link.py's memory of its answer."""

import asyncio
import socket
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from contract import wire
from tests.support.broker import Broker
from tests.support.micropython import evaluate, run

SESSIONS = Path(__file__).parent / "on_board" / "sessions.py"
Answer = Callable[[bytes], bytes | None]


@contextmanager
def name_server(answer: Answer) -> Generator[tuple[int, list[bytes]]]:
    """(port, questions) of a server that sends what `answer` makes of each question; None: nothing."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    questions: list[bytes] = []

    def serve() -> None:
        while True:
            question, client = server.recvfrom(512)
            if not question:
                return
            questions.append(question)
            reply = answer(question)
            if reply is not None:
                server.sendto(reply, client)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], questions
    finally:
        server.sendto(b"", server.getsockname())
        thread.join()
        server.close()


def records(question: bytes, *answers: tuple[int, bytes], flags: int = 0x8180) -> bytes:
    """A reply with these (type, data) records, each named by a pointer to the question."""
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for kind, data in answers)
    return head + question[12:] + body


def resolve(port: int, host: str = "broker.plant.example", deadline_ms: int = 1000) -> Any:
    """(address or [fault, detail], ms)."""
    return evaluate(
        f"""
        import time
        from device.resolve import resolve
        from device.errors import LinkError
        began = time.ticks_ms()
        try:
            found = resolve({host!r}, ("127.0.0.1", {port}), time.ticks_add(began, {deadline_ms}))
        except LinkError as error:
            found = [error.fault, error.detail]
        result = (found, time.ticks_diff(time.ticks_ms(), began))
        """
    )


def test_a_name_becomes_an_address():
    with name_server(lambda question: records(question, (1, bytes([10, 0, 0, 7])))) as (port, questions):
        assert resolve(port)[0] == "10.0.0.7"
    assert questions[0][12:] == b"\x06broker\x05plant\x07example\x00\x00\x01\x00\x01"


def test_aliases_before_the_address_are_stepped_over():
    alias = b"\x05other\xc0\x13"
    with name_server(lambda question: records(question, (5, alias), (28, bytes(16)), (1, b"\x0a\x00\x00\x08"))) as (
        port,
        _,
    ):
        assert resolve(port)[0] == "10.0.0.8"


def test_a_lost_question_is_asked_again():
    seen: list[bytes] = []

    def second_time(question: bytes) -> bytes | None:
        seen.append(question)
        return records(question, (1, b"\x7f\x00\x00\x01")) if len(seen) == 2 else None

    with name_server(second_time) as (port, _):
        found, ms = resolve(port, deadline_ms=2000)
    assert found == "127.0.0.1"
    assert 600 <= ms <= 1500


def test_silence_ends_at_the_deadline():
    with name_server(lambda _: None) as (port, _):
        found, ms = resolve(port)
    assert found == [wire.FAULT_NAME, "broker.plant.example: no answer"]
    assert 1000 <= ms <= 1200


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (lambda question: records(question, flags=0x8183), "name server says 3"),
        (lambda question: records(question), "no address"),
        (lambda question: records(question, (1, b"\x0a\x00\x00\x07"))[:-9], "answer cut short"),
        (lambda question: question[:6], "answer cut short"),
    ],
    ids=["unknown name", "no records", "cut record", "cut head"],
)
def test_an_answer_without_an_address_says_why(answer: Answer, detail: str):
    with name_server(answer) as (port, _):
        assert resolve(port)[0] == [wire.FAULT_NAME, "broker.plant.example: " + detail]


def test_an_answer_to_another_question_is_passed_over():
    with name_server(lambda question: b"\x00\x00" + records(question, (1, b"\x0a\x00\x00\x07"))[2:]) as (port, _):
        assert resolve(port)[0][0] == wire.FAULT_NAME


def test_the_address_is_asked_for_once_and_again_when_it_no_longer_answers(broker: Broker, tmp_path: Path):
    with name_server(lambda question: records(question, (1, b"\x7f\x00\x00\x01"))) as (port, questions):
        arguments = {
            "host": "broker.plant.example",
            "port": broker.port,
            "dns": ["127.0.0.1", port],
            "root": str(tmp_path),
            "sessions": 3,
        }
        results = asyncio.run(run(SESSIONS, arguments))
        assert [result["fault"] for result in results] == [-1, -1, -1]
        assert len(questions) == 1
        (tmp_path / "broker").write_text("127.0.0.9")
        assert asyncio.run(run(SESSIONS, arguments))[0]["fault"] == -1
        assert len(questions) == 2
        assert (tmp_path / "broker").read_text() == "127.0.0.1"
        (tmp_path / "broker").write_text("127.0.")  # torn by a power cut
        assert asyncio.run(run(SESSIONS, arguments))[0]["fault"] == -1
        assert len(questions) == 3
