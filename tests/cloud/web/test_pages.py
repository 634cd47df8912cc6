"""The pages in a real browser: what they show, that they update by themselves, and that they need no other host."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, expect
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.clock import now_ms
from cloud.store.engine import writing
from cloud.store.tables import devices
from contract import wire
from model_export.keys import PublisherKey
from tests.cloud.web.conftest import Watched
from tests.support.artifacts import make, new_key
from tests.support.fleet import Fleet
from tests.support.rollout_fleet import PERIOD_MS, RolloutFleet
from tests.support.shadow_fleet import ShadowFleet
from tests.support.web import Web


@pytest.fixture(scope="module")
def key(web: Web) -> PublisherKey:
    made = new_key()
    web.admin.post("/api/v1/keys", json={"public_key": made.public.hex()})
    return made


def row_of(watched: Watched, device: str) -> Any:
    return watched.page.locator("#boards tr", has=watched.page.get_by_role("link", name=device, exact=True))


def test_the_fleet_page_shows_each_board_with_its_state_model_and_update(
    web: Web, fleet: Fleet, key: PublisherKey, watched: Watched
) -> None:
    data = make(key, "flow")
    web.publish(data, to="all")
    fleet.joined("pump-1", key.key_id)
    fleet.runs("pump-1", data, "flow", "1.0.0", key_ids=(key.key_id,), sequence=1)
    fleet.health("pump-1")
    fleet.readings("pump-1", [[at * 10] for at in range(60)])
    fleet.update("pump-1", wire.UPDATE_REFUSED, wire.REASON_SCHEMA_MISMATCH)
    watched.page.goto(web.url)
    row = row_of(watched, "pump-1")
    for text in ("pump", "online", "flow", "1.0.0", "refused", "feature schema mismatch", "3.65 V", "flow 5.9 l/s"):
        expect(row).to_contain_text(text)
    expect(row.get_by_role("img", name="flow, last 60 samples")).to_be_visible()
    strip = watched.page.locator("#models")
    expect(strip).to_contain_text("champion 1.0.0")
    expect(strip).to_contain_text("1.0.0 on 1")


def test_an_event_appears_without_a_reload(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.joined("pump-live")
    watched.page.goto(web.url)
    expect(watched.page.locator("#link")).to_have_text("Live")
    watched.page.evaluate("window.notReloaded = true")
    fleet.event("pump-live", score=42.5)
    alerts = watched.page.locator("#alerts li", has_text="pump-live")
    expect(alerts.first).to_contain_text("anomaly")
    expect(alerts.first).to_contain_text("score 42.5 against 9.5")
    assert watched.page.evaluate("window.notReloaded") is True


def test_the_same_on_the_page_of_a_board(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.joined("pump-detail")
    fleet.readings("pump-detail", [[at] for at in range(10)])
    watched.page.goto(f"{web.url}/devices/pump-detail")
    expect(watched.page.locator("#link")).to_have_text("Live")
    fleet.update("pump-detail", wire.UPDATE_ROLLBACK, wire.REASON_TRIAL_FAILED, detail="3 bad ends")
    fleet.event("pump-detail", t_ms=5000, score=11.25)
    expect(watched.page.locator("#updates")).to_contain_text("trial failed")
    expect(watched.page.locator("#updates")).to_contain_text("3 bad ends")
    expect(watched.page.locator("#head")).to_contain_text("rolled back")
    expect(watched.page.locator("#events")).to_contain_text("score 11.25")
    expect(watched.page.locator("#readings svg .mark")).to_have_count(1)
    expect(watched.page.locator("#books")).to_contain_text("reading")


def test_a_page_asks_no_other_host_and_complains_of_nothing(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.joined("pump-quiet")
    for path in ("/", "/devices/pump-quiet", "/models", "/schema"):
        watched.page.goto(web.url + path)
        watched.page.wait_for_timeout(700)
    assert watched.complaints == []
    assert watched.asked
    assert [address for address in watched.asked if not address.startswith(web.url + "/")] == []


def test_the_content_security_policy_stops_an_injected_script(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.joined("pump-evil", kind="<img src=x onerror=window.evil=1>")
    watched.page.goto(web.url)
    expect(row_of(watched, "pump-evil")).to_contain_text("<img src=x")
    watched.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.evil=2>')")
    watched.page.wait_for_timeout(300)
    assert watched.page.evaluate("window.evil") is None
    assert any("Content Security Policy" in text for text in watched.complaints)


def test_the_keyboard_reaches_a_board_and_keeps_its_place_through_updates(
    web: Web, fleet: Fleet, watched: Watched
) -> None:
    fleet.joined("pump-keys")
    watched.page.goto(web.url)
    expect(watched.page.locator("#link")).to_have_text("Live")
    watched.page.keyboard.press("Tab")
    expect(watched.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    watched.page.locator("#to-pump-keys").focus()
    fleet.readings("pump-keys", [[1], [2], [3]])
    expect(row_of(watched, "pump-keys").get_by_role("img")).to_be_visible()
    expect(watched.page.locator("#to-pump-keys")).to_be_focused()
    watched.page.keyboard.press("Enter")
    expect(watched.page).to_have_url(re.compile("/devices/pump-keys$"))


def test_tables_and_landmarks_are_named_for_screen_readers(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.joined("pump-aria")
    watched.page.goto(web.url)
    page = watched.page
    for role in ("banner", "main", "navigation"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")
    expect(page.get_by_role("columnheader", name="Last contact")).to_be_visible()
    expect(page.get_by_role("rowheader", name="pump-aria")).to_be_visible()
    unnamed = page.locator("svg[role=img]:not([aria-label])")
    expect(unnamed).to_have_count(0)


def test_the_page_of_a_rollout_follows_it(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], watched: Watched
) -> None:
    boards = RolloutFleet(tmp_path_factory.mktemp("rollout"), 36, reports=4, start_ms=now_ms() - 4 * PERIOD_MS)
    with Web(boards.fleet.settings, free_port()) as server:
        boards.now = now_ms()
        number = boards.started(period_ms=PERIOD_MS)
        watched.page.goto(server.url)
        expect(watched.page.locator("#rollouts")).to_contain_text("7 are to take it")
        watched.page.get_by_role("link", name="flow 1.0.0").click()
        expect(watched.page).to_have_url(re.compile(f"/rollouts/{number}$"))
        expect(watched.page.locator("#rollout")).to_contain_text("canary 10 %")
        boards.refuses = True
        boards.now = now_ms()
        boards.beat()
        expect(watched.page.locator("#gates")).to_contain_text("worse")
        expect(watched.page.locator("#rollout")).to_contain_text("7 of 7 boards that tried it failed: load failed")
        expect(watched.page.locator("#steps")).to_contain_text("rolling back")
        expect(watched.page.locator("#cohort tr", has_text="failed")).to_have_count(7)
    assert [text for text in watched.complaints if "ERR_CONNECTION" not in text and "ERR_INCOMPLETE" not in text] == []


def test_the_page_of_a_comparison_shows_what_was_decided_differently(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], watched: Watched
) -> None:
    folder = tmp_path_factory.mktemp("rollout")
    boards = ShadowFleet(folder, 36, reports=4, start_ms=now_ms() - 4 * PERIOD_MS)
    with Web(boards.fleet.settings, free_port()) as server:
        boards.now = now_ms()
        number = boards.shadowed(period_ms=PERIOD_MS)
        watched.page.goto(f"{server.url}/rollouts/{number}")
        expect(watched.page.locator("#shadow")).to_contain_text("No window yet on which they differ.")
        name = next(iter(boards.wanted_beside()))
        boards.now = now_ms()
        boards.beat()
        boards.now = now_ms() + 1
        boards.disagree(name, 0, wire.WHY_SHADOW_NORMAL, 1.25, (1, -2))
        expect(watched.page.locator("#shadow")).to_contain_text("27 (1 %)")
        expect(watched.page.locator("#shadow tr", has_text=name)).to_contain_text("normal")
    assert [text for text in watched.complaints if "ERR_CONNECTION" not in text and "ERR_INCOMPLETE" not in text] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(web: Web, fleet: Fleet, browser: Browser, scheme: Any) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for each word and the colour behind it."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(web.url)
    worst = page.evaluate(CONTRAST)
    context.close()
    assert worst["ratio"] >= 4.5, worst


def test_a_narrow_screen_scrolls_the_table_and_not_the_page(web: Web, fleet: Fleet, browser: Browser) -> None:
    fleet.add("w" * 32, kind="k" * 32)
    context = browser.new_context(viewport={"width": 360, "height": 700})
    page = context.new_page()
    for path in ("/", f"/devices/{'w' * 32}", "/models", "/schema"):
        page.goto(web.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    context.close()


def test_without_scripts_the_page_is_there_and_refreshes_itself(web: Web, fleet: Fleet, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(web.url)
    expect(page.get_by_role("heading", name="Boards")).to_be_visible()
    assert page.locator("noscript meta[http-equiv=refresh]").count() == 1
    context.close()


def test_a_page_comes_back_to_life_after_the_server_was_away(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.joined("pump-back")
    watched.page.goto(web.url)
    expect(watched.page.locator("#link")).to_have_text("Live")
    web.stop()
    expect(watched.page.locator("#link")).to_have_text("Reconnecting")
    fleet.event("pump-back", score=33.25)
    web.start()
    expect(watched.page.locator("#link")).to_have_text("Live", timeout=20_000)
    expect(watched.page.locator("#alerts")).to_contain_text("score 33.25")


def test_a_board_is_found_among_many_by_keyboard_and_by_state(web: Web, fleet: Fleet, watched: Watched) -> None:
    fleet.add(*(f"found-{number:03}" for number in range(120)), kind='pump <b>"x"&')
    fleet.joined("found-lost")
    fleet.say("found-lost", False)
    fleet.run(lambda engine: _silent_since_long(engine, "found-lost"))
    watched.page.goto(web.url)
    watched.page.get_by_label("Find boards").fill("FOUND-11")
    watched.page.keyboard.press("Enter")
    expect(watched.page.locator("#boards tbody tr")).to_have_count(10)
    expect(watched.page.locator("#link")).to_have_text("Live")
    watched.page.get_by_label("Find boards").fill('<b>"x"&')
    watched.page.get_by_label("Find boards").press("Enter")
    expect(watched.page.locator("#boards tbody tr")).to_have_count(100)
    watched.page.get_by_role("link", name="next 100").click()
    expect(watched.page.locator("#boards tbody tr")).to_have_count(20)
    expect(watched.page.get_by_role("link", name="first 100")).to_be_visible()
    expect(watched.page.locator("#link")).to_have_text("Live")
    watched.page.locator("#lost").click()
    expect(row_of(watched, "found-lost")).to_contain_text("lost")
    expect(watched.page.locator("#boards tbody tr")).to_have_count(1)
    watched.page.goto(f"{web.url}/?find=nobody-has-this")
    expect(watched.page.locator("#boards")).to_contain_text("boards matches")


async def _silent_since_long(engine: AsyncEngine, device: str) -> None:
    async with writing(engine).begin() as connection:
        await connection.execute(sa.update(devices).where(devices.c.device == device).values(last_seen_ms=1))


# The lowest contrast of any visible text, computed as WCAG 2.2 defines it.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = (top, below) => { const a = top[3] / 255;
    return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)).concat(255); };
  const light = (c) => { const v = c.slice(0, 3).map((x) => x / 255)
    .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const behind = (node) => { const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgb(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 255]); };
  let worst = {ratio: 99};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const hidden = !node.checkVisibility() || node.closest(".unseen, .skip, svg, noscript");
    if (hidden || !walk.currentNode.textContent.trim()) continue;
    const below = behind(node);
    const a = light(over(rgb(getComputedStyle(node).color), below)), b = light(below);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: walk.currentNode.textContent.trim(), where: node.className};
  }
  return worst;
}"""
