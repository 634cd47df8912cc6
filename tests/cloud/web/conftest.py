"""A real server and a real browser."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.fleet import Fleet, settings_in
from tests.support.web import Web

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Web]:
    """A running web process."""
    with Web(settings_in(tmp_path_factory.mktemp("data")), free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(web: Web) -> Fleet:
    """The boards of that web process's store."""
    return Fleet(web.settings)


# Not for the session: while it lives, playwright keeps an event loop running in the thread of all tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium; playwright's own would be a download from another host."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium for the page tests (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, which is who runs tests in a container.
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


class Watched:
    """A page, all it complained about, and every address it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A fresh page."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(10_000)
    yield Watched(context.new_page())
    context.close()
