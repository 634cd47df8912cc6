"""`edgewise model ...` and `edgewise keys ...` against a real server."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cloud import wire_types as w
from cloud.cli import device
from cloud.models import cli
from contract import wire
from contract.table import LINEAR
from model_export.detectors.trees import Ensemble
from model_export.keys import PublisherKey
from model_export.table import forest
from tests.support.artifacts import blob, card, digest, make, new_key, stump
from tests.support.fleet import Fleet
from tests.support.web import Web


@pytest.fixture
def edgewise(web: Web) -> Any:
    """Runs a command as a user of that server; `run(..., token="")` as one without the token."""

    def run(*words: str | Path, token: str = web.token) -> Result:
        group = {"model": cli.model, "keys": cli.keys}[str(words[0])]
        environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": token, "COLUMNS": "200"}
        return CliRunner().invoke(group, [str(word) for word in words[1:]], env=environ)

    return run


def test_publish_list_show_promote_and_history(edgewise: Any, fleet: Fleet, key: PublisherKey, tmp_path: Path) -> None:
    fleet.joined("desk-1", key.key_id)
    model_card = card(note="first")
    first = make(key, "desk", card=model_card)
    file = tmp_path / "desk-1.0.0-x64.ewa"
    file.write_bytes(first)
    file.with_suffix(".card.json").write_bytes(model_card)

    done = edgewise("model", "publish", file, "--to", "desk-1", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["boards"] == [{"device": "desk-1", "sha256": digest(first), "why": ""}]
    listed = json.loads(edgewise("model", "list", "desk", "--json").output)
    assert [(version["version"], version["boards_wanted"]) for version in listed] == [("1.0.0", 1)]
    shown = edgewise("model", "show", "desk").output
    assert "x64 native (ABI 6.3)" in shown
    assert "desk-1" in shown
    assert '"note": "first"' in shown

    promoted = edgewise("model", "promote", "desk", "1.0.0", "--note", "good on the desk")
    assert promoted.exit_code == 0, promoted.output
    assert "good on the desk" in edgewise("model", "history", "desk").output
    assert "champion" in edgewise("model", "list").output


def test_a_raw_window_is_asked_for_and_nonsense_is_refused(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    fleet.joined("raw-1", key.key_id)
    environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token}
    done = CliRunner().invoke(device, ["raw-window", "raw-1", "--windows", "2"], env=environ)
    assert done.exit_code == 0, done.output
    assert "next session" in done.output
    refused = CliRunner().invoke(device, ["raw-window", "raw-1", "--windows", "61"], env=environ)
    assert refused.exit_code == 1
    assert "1 to 60" in refused.output


def test_diff_shows_what_changed_and_nothing_else(edgewise: Any, web: Web, key: PublisherKey) -> None:
    web.publish(make(key, "differs", threshold=9.0, payload=b"same"))
    web.publish(make(key, "differs", "1.1.0", 2, threshold=8.0, payload=b"same"))
    found = json.loads(edgewise("model", "diff", "differs", "1.0.0", "1.1.0", "--json").output)
    assert {line["what"]: (line["before"], line["after"]) for line in found} == {
        "x64 native.sequence": (1, 2),
        "x64 native.threshold": (9.0, 8.0),
        "x64 native.version": ("1.0.0", "1.1.0"),
    }


def test_diff_counts_the_trees_that_two_forests_share(edgewise: Any, web: Web, key: PublisherKey) -> None:
    old = Ensemble([stump(cut) for cut in (1, 2, 3, 4)], np.array([0.0, 1.0]), 2, 2.0, LINEAR, 0.25)
    new = replace(old, trees=[*old.trees[:3], stump(9)])
    base = forest(old, 0.5)
    web.publish(blob(key, name="forest", threshold=0.5, payload=base))
    web.publish(blob(key, name="forest", version="1.1.0", sequence=2, threshold=0.5, payload=forest(new, 0.5, base)))
    found = json.loads(edgewise("model", "diff", "forest", "1.0.0", "1.1.0", "--json").output)
    lines = {line["what"]: (line["before"], line["after"]) for line in found}
    assert lines["any blob.trees kept"] == (4, 3)
    assert lines["any blob.bytes of new trees"][1] > 0
    assert "any blob.trees" not in lines, "their number is the same"


def test_a_version_is_noted_and_a_board_s_models_are_told_by_time(
    edgewise: Any, web: Web, fleet: Fleet, key: PublisherKey
) -> None:
    fleet.joined("noted-1", key.key_id)
    data = make(key, "noted")
    web.publish(data)
    assert edgewise("model", "note", "noted", "1.0.0", "do not use above 60 degC").exit_code == 0
    assert "do not use above 60 degC" in edgewise("model", "show", "noted", "1.0.0").output
    fleet.runs("noted-1", data, "noted", "1.0.0", key_ids=(key.key_id,), sequence=1)
    fleet.update("noted-1", wire.UPDATE_COMMIT, name="noted", version="1.0.0", sha8=bytes.fromhex(digest(data))[:8])

    def ran(*words: str) -> list[str]:
        """The versions told, the last one first."""
        return [run["version"] for run in json.loads(edgewise("model", "ran", "noted-1", *words, "--json").output)]

    deadline = time.monotonic() + 20
    while ran()[:1] != ["1.0.0"]:  # until then there was none, or what the board ran at first
        assert time.monotonic() < deadline, "the web process follows HELLOs once a second"
        time.sleep(0.2)
    assert ran("--at", "2001-01-01") == []
    assert ran("--at", "2100-01-01T00:00:00") == ["1.0.0"]
    assert "1 committed" in edgewise("model", "show", "noted", "1.0.0").output


def test_a_board_is_shown_as_it_is_configured_and_with_figures_to_be_read(web: Web, fleet: Fleet) -> None:
    fleet.joined("shown-1")
    environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token, "COLUMNS": "200"}
    CliRunner().invoke(device, ["configure", "shown-1", "sensitive=true"], env=environ)
    fleet.say("shown-1", w.Query(1, 0, 1000, 0, 33.143775939941406, bytes(8), bytes(8), wire.WHY_MARGIN))
    shown = CliRunner().invoke(device, ["show", "shown-1"], env=environ).output
    assert 'desired {"sensitive": true}, reported' in shown
    assert re.search(r"margin +33.1438 ", shown)
    assert "None" not in shown


def test_boards_are_tagged(web: Web, fleet: Fleet) -> None:
    fleet.add("tagged-1", "tagged-2")
    environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token}
    done = CliRunner().invoke(device, ["tag", "tagged-1", "tagged-2", "--add", "wet", "--add", "line-1"], env=environ)
    assert done.output == "tagged-1: line-1, wet\ntagged-2: line-1, wet\n"
    done = CliRunner().invoke(device, ["tag", "tagged-1", "--remove", "wet", "--json"], env=environ)
    assert json.loads(done.output) == {"tagged-1": ["line-1"]}
    shown = CliRunner().invoke(device, ["show", "tagged-1"], env=environ | {"COLUMNS": "80"}).output
    assert "line-1, wet" not in shown, "wet was taken away"
    assert re.search(r"tags +line-1", shown)
    for words in (["--find", "line-1"], ["--find", "TAGGED-", "--presence", "new"]):
        found = json.loads(CliRunner().invoke(device, ["list", "--json", *words], env=environ).output)
        assert [board["device"] for board in found] == ["tagged-1", "tagged-2"]
    found = CliRunner().invoke(device, ["list", "--json", "--find", "tagged_", "--presence", "new"], env=environ)
    assert json.loads(found.output) == []
    refused = CliRunner().invoke(device, ["tag", "nobody", "--add", "wet"], env=environ)
    assert (refused.exit_code, "no device nobody" in refused.output) == (1, True)


def test_an_event_is_traced_to_the_data_its_model_was_made_of(
    edgewise: Any, web: Web, fleet: Fleet, key: PublisherKey
) -> None:
    model_card = card(dataset={"sha256": "feed" * 16})
    data = make(key, "traced", card=model_card)
    web.publish(data, cards=(model_card,))
    fleet.joined("traced-1", key.key_id)
    web.admin.post("/api/v1/desired", json={"name": "traced", "version": "1.0.0", "to": "traced-1"})
    fleet.runs("traced-1", data, "traced", "1.0.0", key_ids=(key.key_id,))
    fleet.event("traced-1", t_ms=3_700_000, model=bytes.fromhex(digest(data))[:8])
    found = json.loads(edgewise("model", "trace", "traced-1", "1", "0", "--json").output)
    assert found["version"]["version"] == "1.0.0"
    assert found["card"]["dataset"]["sha256"] == "feed" * 16
    assert found["card"]["code"]["revision"] == "abc123"
    assert found["deployed_cause"] == "operator"
    assert "told to run it" in edgewise("model", "trace", "traced-1", "1", "0").output


def test_pin_and_follow(edgewise: Any, web: Web, fleet: Fleet, key: PublisherKey) -> None:
    fleet.joined("pinned-1", key.key_id)
    first = make(key, "pins")
    fleet.runs("pinned-1", first, "pins", "1.0.0", key_ids=(key.key_id,), sequence=1)
    web.publish(first, to="all")
    edgewise("model", "deploy", "pins", "1.0.0", "--to", "pinned-1")
    second = make(key, "pins", "1.1.0", 2)
    assert web.publish(second, to="all").json()["boards"] == []
    answer = json.loads(edgewise("model", "follow", "pinned-1", "--json").output)
    assert answer == [{"device": "pinned-1", "sha256": digest(second), "why": ""}]


def test_a_version_in_use_is_not_deleted_and_an_unused_one_is(
    edgewise: Any, web: Web, fleet: Fleet, key: PublisherKey
) -> None:
    web.publish(make(key, "gone"), to="all")
    web.publish(make(key, "gone", "1.1.0", 2), to="all")
    web.publish(make(key, "gone", "1.2.0", 3))
    refused = edgewise("model", "delete", "gone", "1.1.0")
    assert refused.exit_code == 1
    assert "gone 1.1.0 is in use: alias champion" in refused.output
    assert edgewise("model", "delete", "gone", "1.0.0").exit_code == 0
    assert [item["version"] for item in web.get("/api/v1/models/gone")] == ["1.2.0", "1.1.0"]
    kept = json.loads(edgewise("model", "gc", "--json").output)
    assert kept == {"blobs": [], "bytes": 0}, "a young blob may be about to get its row"


def test_keys_are_trusted_from_a_file_listed_and_revoked(edgewise: Any, tmp_path: Path) -> None:
    key = new_key()
    file = tmp_path / "public.txt"
    file.write_text(f"release key\n{key.public.hex()}\n")
    assert edgewise("keys", "trust", file, "--label", "release").exit_code == 0
    assert "release" in edgewise("keys", "trusted").output
    assert edgewise("keys", "distrust", key.key_id.hex()).exit_code == 0
    file.write_text(f"{key.public.hex()}\n{new_key().public.hex()}\n")
    two = edgewise("keys", "trust", file)
    assert (two.exit_code, "holds 2 public keys" in two.output) == (1, True)
    again = edgewise("keys", "trust", key.public.hex())
    assert again.exit_code == 1
    assert "was revoked; sign with a new key" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model", "show", "nothing"), "no model nothing; `edgewise model list` shows"),
        (("model", "promote", "nothing", "1.0.0"), "no model nothing 1.0.0"),
        (("model", "deploy", "nothing", "1.0.0", "--to", "all"), "no model nothing 1.0.0"),
        (("model", "follow", "nobody"), "no device nobody"),
        (("model", "trace", "nobody", "1", "0"), "no event nobody 1/0"),
        (("keys", "distrust", "0" * 16), "no publisher key"),
        (("model", "show", "x/../y"), "holds what no name does"),
        (("model", "publish", __file__), f"{__file__} is no artifact"),
    ],
)
def test_a_mistake_ends_with_its_cause_and_status_1(edgewise: Any, words: tuple[str, ...], said: str) -> None:
    done = edgewise(*words)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert said in done.output


def test_without_the_token_nothing_is_published(edgewise: Any, key: PublisherKey, tmp_path: Path) -> None:
    file = tmp_path / "x.ewa"
    file.write_bytes(make(key, "unallowed"))
    done = edgewise("model", "publish", file, token="wrong")
    assert done.exit_code == 1
    assert "needs the admin token" in done.output
    assert edgewise("model", "show", "unallowed").exit_code == 1
