"""The files that docs/simulate.md shows are taken as they are."""

import re
import tomllib
from pathlib import Path

from tools.firmware import ROOT
from tools.scenario import plan, schema

BLOCKS = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/simulate.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_scenario_shown_is_sound_and_has_every_kind_of_fault_in_a_comment():
    scenario = schema.parse(tomllib.loads(BLOCKS[0]), Path())
    assert len(scenario.boards) == 2
    for kind in (*schema.FAULTS, *schema.INJECTIONS):
        assert kind in BLOCKS[0], kind


def test_the_policy_shown_says_what_the_firmware_does_but_for_its_name_and_settings():
    (shown,) = plan.parse(tomllib.loads(BLOCKS[1]))
    changed, usual = shown.module(), plan.DEFAULT.module()
    assert shown.settings == {"sync_interval_ms": 21_600_000, "syncs_per_hour": 4}
    for name in shown.numbers:
        assert getattr(changed, name) == getattr(usual, name), name
