"""TLS between board and broker: a real certificate chain, a real nats-server, MicroPython's own TLS."""

import asyncio
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract import wire
from tests.support.broker import Broker
from tests.support.micropython import run

SESSIONS = Path(__file__).parent / "on_board" / "sessions.py"


class Authority(NamedTuple):
    """A CA of this test and what it signs with."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def signed(subject: str, key: ec.EllipticCurvePrivateKey, by: Authority | None) -> x509.Certificate:
    """A certificate for `subject`; by None: a CA's own."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(by.certificate.subject if by else name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
    )
    return builder.sign(by.key if by else key, hashes.SHA256())


def authority(folder: Path, common: str) -> Authority:
    """A CA whose certificate is `<common>.der` in folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(signed(common, key, None), key)
    (folder / f"{common}.der").write_bytes(made.certificate.public_bytes(serialization.Encoding.DER))
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
