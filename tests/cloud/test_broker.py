"""Who may do what at the broker, and how that changes while it runs."""

import asyncio
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import pytest

from cloud import broker
from cloud.broker import Credential, device_password, ingest_login
from cloud.settings import load_settings
from contract import wire
from tests.support.parts import Parts


@pytest.fixture
def parts(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Parts]:
    made = Parts(tmp_path / "data", free_port(), ["one", "two"])
    made.start_broker()
    yield made
    made.stop()


def client(parts: Parts, device: str, generation: int = 1) -> aiomqtt.Client:
    return aiomqtt.Client(
        parts.settings.host,
        parts.settings.mqtt_port,
        username=device,
        password=device_password(parts.settings, device, generation),
        identifier=device,
        timeout=2,
    )


async def can_log_in(parts: Parts, device: str, generation: int = 1) -> bool:
    try:
        async with client(parts, device, generation):
            return True
    except aiomqtt.MqttError:
        return False


async def heard(parts: Parts, listener: str, kind: str, send: "Callable[[aiomqtt.Client], object]") -> list[bytes]:
    """What ingest hears on all topics of a kind while `listener` sends."""
    login = ingest_login(parts.settings)
    got: list[bytes] = []
    async with aiomqtt.Client(
        login.host, login.port, username=login.user, password=login.password, identifier="ear"
    ) as ear:
        await ear.subscribe(f"{wire.TOPIC_PREFIX}+/{kind}", qos=1)
        async with client(parts, listener) as sender:
            await send(sender)  # type: ignore[misc]
        try:
            async with asyncio.timeout(0.5):
                async for message in ear.messages:
                    got.append(bytes(message.payload))  # type: ignore[arg-type]
        except TimeoutError:
            return got
    return got


def test_a_device_speaks_for_itself_only(parts: Parts):
    async def send(sender: aiomqtt.Client) -> None:
        await sender.publish(wire.topic("one", wire.KIND_UP), b"mine", qos=1)
        await sender.publish(
            wire.topic("two", wire.KIND_UP), b"not mine", qos=1
        )  # the broker acknowledges and drops it

    assert asyncio.run(heard(parts, "one", wire.KIND_UP, send)) == [b"mine"]


def test_a_device_hears_only_what_is_for_it(parts: Parts):
    async def granted(topic: str) -> int:
        async with client(parts, "one") as listener:
            (code,) = await listener.subscribe(topic, qos=1)
            return code if isinstance(code, int) else code.value

    for kind in (wire.KIND_ACK, wire.KIND_WANT, wire.KIND_DO):
        assert asyncio.run(granted(wire.topic("one", kind))) < 0x80
        assert asyncio.run(granted(wire.topic("two", kind))) >= 0x80
    for topic in ("#", f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}", wire.topic("one", wire.KIND_UP)):
        assert asyncio.run(granted(topic)) >= 0x80


def test_without_the_password_nobody_gets_in(parts: Parts):
    assert asyncio.run(can_log_in(parts, "one"))
    assert not asyncio.run(can_log_in(parts, "one", generation=2))
    assert not asyncio.run(can_log_in(parts, "three"))


def test_devices_are_added_renewed_and_removed_while_others_stay_connected(parts: Parts):
    async def story() -> None:
        def reload(*credentials: Credential) -> None:
            broker.reload_credentials(parts.settings, credentials, parts.broker_pid)

        async def removed() -> None:
            async with client(parts, "two") as goes:
                await asyncio.to_thread(reload, Credential("one", 1), Credential("three", 1))
                await goes.publish(wire.topic("two", wire.KIND_UP), b"x", qos=1)

        async with client(parts, "one") as stays:
            with pytest.raises(aiomqtt.MqttError):
                await removed()
            assert await can_log_in(parts, "three")
            assert not await can_log_in(parts, "two")
            await stays.publish(wire.topic("one", wire.KIND_UP), b"x", qos=1)
            await asyncio.to_thread(reload, Credential("one", 1), Credential("three", 2))
            assert not await can_log_in(parts, "three", generation=1)
            assert await can_log_in(parts, "three", generation=2)

    asyncio.run(story())


def test_the_configuration_is_for_its_owner_only_and_names_no_secret_of_the_database(parts: Parts):
    path = broker.config_path(parts.settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(parts.settings.secret_path.stat().st_mode) == 0o600
    password = device_password(parts.settings, "one", 1)
    assert password in path.read_text()
    assert password.encode() not in Path(parts.settings.database_url.removeprefix("sqlite:///")).read_bytes()


def test_passwords_differ_by_device_generation_and_installation(tmp_path: Path):
    here, there = load_settings({}, data_dir=tmp_path / "a"), load_settings({}, data_dir=tmp_path / "b")
    passwords = {
        device_password(settings, device, generation)
        for settings in (here, there)
        for device in ("one", "two")
        for generation in (1, 2)
    }
    assert len(passwords) == 8
    assert device_password(here, "one", 1) == device_password(load_settings({}, data_dir=tmp_path / "a"), "one", 1)


def test_a_folder_with_odd_characters_does_not_break_the_configuration(tmp_path: Path, free_port: Callable[[], int]):
    odd = tmp_path / 'da"ta {1} # $x'
    made = Parts(odd, free_port(), ["one"])
    try:
        made.start_broker()
        assert asyncio.run(can_log_in(made, "one"))
    finally:
        made.stop()
    assert json.dumps(str(odd / "nats")) in broker.config_path(made.settings).read_text()
