"""What is generated from the message table is current, complete, and the same at every call."""

from pathlib import Path

import pytest

from contract import messages
from tools import gen_contract

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("generator", [gen_contract.protocol_tables, gen_contract.wire_types], ids=lambda g: g.__name__)
def test_generated_files_are_what_their_generator_makes(generator) -> None:
    made = generator()
    assert made == generator()
    assert made == {path: (ROOT / path).read_text("utf-8") for path in made}


def test_every_field_is_in_the_protocol_with_its_meaning() -> None:
    text = (ROOT / gen_contract.PROTOCOL_PATH).read_text("utf-8")
    for message in messages.MESSAGES:
        section = text.partition(f"<!-- fields: {message.name} -->")[2].partition("<!-- end -->")[0]
        for number, field in enumerate(message.fields, start=1):
            assert f"| {number} | {field.name} |" in section
            assert field.meaning in section


def test_a_message_without_its_marker_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (ROOT / gen_contract.PROTOCOL_PATH).read_text("utf-8")
    path = tmp_path / gen_contract.PROTOCOL_PATH
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("<!-- fields: Ack -->", ""), encoding="utf-8")
    monkeypatch.setattr(gen_contract, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="fields: Ack"):
        gen_contract.protocol_tables()


def test_sections_name_every_message_with_its_code() -> None:
    text = (ROOT / gen_contract.PROTOCOL_PATH).read_text("utf-8")
    for message in messages.MESSAGES:
        assert f"### {message.name.upper()} ({message.code})\n" in text
