"""docs/sensors.md: its examples are configurations that boards take, its pins and figures those of the firmware."""

import json
import re

import pytest

from contract import sensing
from contract.features import Features
from tests.support.micropython import evaluate
from tools.firmware import FIRMWARE, ROOT

PAGE = (ROOT / "docs" / "sensors.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
DAY_S = 86400


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["sensor"]["driver"])
def test_each_example_is_a_configuration_that_works(example: dict[str, object]):
    assert isinstance(example["sensor"], dict)
    assert sensing.problems(example["sensor"], Features(str(example["schema"]))) == []


def test_there_is_an_example_of_every_driver():
    assert {example["sensor"]["driver"] for example in EXAMPLES} == set(sensing.DRIVERS)


def test_the_pins_are_those_of_main_py():
    source = (FIRMWARE / "main.py").read_text(encoding="utf-8")
    pins = {
        chip: dict(re.findall(r'"(\w+)": (\d+)', row)) for chip, row in re.findall(r'"(ESP\w+)": \{(.*)\},', source)
    }
    rows = {row.split("|")[1].split("`")[1]: row.split("|")[2:6] for row in PAGE.splitlines() if row.startswith("| `")}
    for column, chip in enumerate(("ESP32", "ESP32S3", "ESP32C3", "ESP32C6")):
        for role, cells in rows.items():
            wanted = [pins[chip].get(name) for name in (("scl", "sda") if role == "scl" else (role,))]
            assert re.findall(r"\d+", cells[column]) == [pin for pin in wanted if pin], (chip, role)
    assert pins["ESP32S2"] == pins["ESP32S3"]


def test_the_costs_follow_from_the_ledger():
    profiles = evaluate("from device import ledger\nresult = ledger.PROFILES")
    rows = re.findall(r"^\| (ESP32\w*) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert {row[0] for row in rows} == set(profiles)
    for chip, *cells in rows:
        active_uw, radio_uw, _, sleep_uw, boot_ms = profiles[chip]
        exact = (boot_ms * active_uw / 1e6, active_uw / 1e4, radio_uw / 1e3, sleep_uw * DAY_S / 1e3)
        assert [float(cell) for cell in cells] == pytest.approx(exact, rel=0.02), chip
