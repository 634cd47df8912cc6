"""TLS between board and broker: a real certificate chain, a real nats-server, MicroPython's own TLS.

MicroPython judges certificates by the clock on this machine as on an ESP32, where it stands at the year 2000 after
power-on. support/clock.c gives it such a clock.
"""

import asyncio
import datetime
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract import wire
from tests.support import boards
from tests.support.broker import Broker
from tests.support.micropython import evaluate, run

SESSIONS = Path(__file__).parent / "on_board" / "sessions.py"
CLOCK = Path(__file__).parents[1] / "support" / "clock.c"
POWER_ON_S = 946684800  # 2000-01-01
DAY_S = 86400


class Authority(NamedTuple):
    """A CA of this test and what it signs with."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def signed(subject: str, key: ec.EllipticCurvePrivateKey, by: Authority | None, age_h: int = 24) -> x509.Certificate:
    """A certificate for `subject`; by None: a CA's own."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(by.certificate.subject if by else name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=age_h))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
    )
    return builder.sign(by.key if by else key, hashes.SHA256())


def authority(folder: Path, common: str) -> Authority:
    """A CA whose certificate is `<common>.der` in folder, and `<common>-renewed.der` where it was renewed just now."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(signed(common, key, None), key)
    for file, certificate in ((common, made.certificate), (common + "-renewed", signed(common, key, None, age_h=0))):
        (folder / f"{file}.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return made


@pytest.fixture
def secure_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Broker]:
    """A broker that takes TLS only, as `localhost`, signed by the CA of plant.der in tmp_path."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = signed("localhost", key, authority(tmp_path, "plant"))
    (tmp_path / "broker.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "broker.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    tls = f', tls {{ cert_file: "{tmp_path / "broker.pem"}", key_file: "{tmp_path / "broker.key"}" }}'
    broker = Broker(tmp_path / "nats", free_port(), free_port(), tls)
    broker.start()
    yield broker
    broker.kill()


def session(broker: Broker, folder: Path, **arguments: Any) -> Any:
    given = {"host": "localhost", "port": broker.port, "root": str(folder), "budget_ms": 4000} | arguments
    return asyncio.run(run(SESSIONS, given))[0]


def test_a_session_over_tls_works_as_any_other(secure_broker: Broker, tmp_path: Path):
    result = session(secure_broker, tmp_path, ca="plant.der", frames=20, size=900)
    assert result["fault"] == -1, result
    print(f"TLS: {result['turns']} round trips, {result['answered_us'] // 1000} ms")
    assert result["turns"] <= 5, "two more for the handshake, and one each for what does not fit a segment"


def test_the_firmware_as_it_starts_speaks_tls_where_its_configuration_names_a_ca(secure_broker: Broker, tmp_path: Path):
    folder = boards.make(tmp_path / "pump-1", secure_broker.port)
    path = folder / "flash" / "config.json"
    config = json.loads(path.read_text())
    config["broker"] |= {"host": "localhost", "ca": "plant.der"}
    path.write_text(json.dumps(config))
    shutil.copy(tmp_path / "plant.der", folder / "flash")
    code = """
    import device.sync
    import main
    result = []
    def sync(parts, link):
        link.open(4000)
        link.settle()
        link.close()
        result.append(link.failures)
    device.sync.sync = sync
    parts = main.make_parts()
    parts.state.load()
    main.hold_session(parts)
    """
    assert evaluate(code, folder, heap="1M") == [0]


def test_a_broker_of_another_authority_is_refused(secure_broker: Broker, tmp_path: Path):
    authority(tmp_path, "stranger")
    result = session(secure_broker, tmp_path, ca="stranger.der")
    assert result["fault"] == wire.FAULT_CONNECT
    assert result["detail"].startswith("TLS: ")


def test_a_broker_of_another_name_is_refused(secure_broker: Broker, tmp_path: Path):
    result = session(secure_broker, tmp_path, ca="plant.der", host="127.0.0.1")
    assert result["fault"] == wire.FAULT_CONNECT
    assert "does not match" in result["detail"]


def test_a_broker_without_tls_is_a_fault_and_not_a_hang(broker: Broker, tmp_path: Path):
    authority(tmp_path, "plant")
    result = session(broker, tmp_path, ca="plant.der")
    assert result["fault"] in (wire.FAULT_CLOSED, wire.FAULT_CONNECT)
    assert result["ms"] < 4200


def test_a_board_without_a_ca_is_not_let_in(secure_broker: Broker, tmp_path: Path):
    result = session(secure_broker, tmp_path)
    assert result["fault"] in (wire.FAULT_CLOSED, wire.FAULT_PROTOCOL)


@pytest.fixture
def cold_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of a session on a board whose RTC is as after power-on."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler; Debian: apt install build-essential")
    library = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, CLOCK], check=True, timeout=60)
    (tmp_path / "rtc").write_text(str(POWER_ON_S))
    monkeypatch.setenv("CLOCK_FILE", str(tmp_path / "rtc"))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("TZ", "UTC")
    return {"ca": "plant.der", "clock": "rtc"}


def now_s() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp())


def test_a_board_without_a_date_takes_the_day_the_certificate_was_issued(
    secure_broker: Broker, tmp_path: Path, cold_clock: dict[str, Any]
):
    result = session(secure_broker, tmp_path, **cold_clock, now_s=0, frames=20)
    assert result["fault"] == -1, result
    issued_s = datetime.datetime(*result["dates"][0], tzinfo=datetime.UTC).timestamp()
    assert now_s() - DAY_S - 60 < issued_s <= now_s() - DAY_S


def test_a_certificate_older_than_its_renewed_authority_is_taken(
    secure_broker: Broker, tmp_path: Path, cold_clock: dict[str, Any]
):
    result = session(secure_broker, tmp_path, **(cold_clock | {"ca": "plant-renewed.der"}), now_s=0)
    assert result["fault"] == -1, result


def test_a_board_that_knows_the_date_asks_for_no_certificate_first(
    secure_broker: Broker, tmp_path: Path, cold_clock: dict[str, Any]
):
    result = session(secure_broker, tmp_path, **cold_clock, now_s=now_s())
    assert result["fault"] == -1, result
    assert result["turns"] <= 5


@pytest.mark.parametrize("days", [-2, 2], ids=["not yet valid", "no longer valid"])
def test_a_board_that_knows_the_date_refuses_a_certificate_of_another(
    secure_broker: Broker, tmp_path: Path, cold_clock: dict[str, Any], days: int
):
    result = session(secure_broker, tmp_path, **cold_clock, now_s=now_s() + days * DAY_S)
    assert result["fault"] == wire.FAULT_CONNECT
    assert "validity" in result["detail"]


def test_a_board_without_a_date_refuses_a_stranger_all_the_same(
    secure_broker: Broker, tmp_path: Path, cold_clock: dict[str, Any]
):
    authority(tmp_path, "stranger")
    result = session(secure_broker, tmp_path, **(cold_clock | {"ca": "stranger.der"}), now_s=0)
    assert result["fault"] == wire.FAULT_CONNECT
    assert "CA" in result["detail"], result["detail"]


def test_a_broker_that_is_silent_in_the_first_handshake_costs_its_deadline_only(
    tmp_path: Path, cold_clock: dict[str, Any], free_port: Callable[[], int]
):
    authority(tmp_path, "plant")
    port = free_port()

    async def against_silence() -> Any:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port)
        arguments = cold_clock | {"port": port, "root": str(tmp_path), "budget_ms": 500, "now_s": 0}
        try:
            return (await run(SESSIONS, arguments))[0]
        finally:
            server.close()

    result = asyncio.run(against_silence())
    assert result["fault"] == wire.FAULT_TIMEOUT
    assert result["ms"] < 800


def test_the_date_of_a_certificate_is_read_from_its_der():
    key = ec.generate_private_key(ec.SECP256R1())
    dates = [datetime.datetime(year, 3, 4, 5, 6, 7, tzinfo=datetime.UTC) for year in (1998, 2026, 2049)]
    given: list[str] = []
    for date in dates:
        builder = x509.CertificateBuilder().subject_name(name("broker")).issuer_name(name("\x17\x0d00"))
        builder = builder.public_key(key.public_key()).serial_number(0x170D17)
        builder = builder.not_valid_before(date).not_valid_after(date + datetime.timedelta(days=9000))
        given.append(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER).hex())
    code = f"""
    from device.secure import issued
    result = [list(issued(bytes.fromhex(der))) for der in {given}] + [issued(b"\\x17\\x0dno date")]
    """
    assert evaluate(code) == [list(date.timetuple()[:6]) for date in dates] + [None]
