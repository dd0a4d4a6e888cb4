"""A headless Chromium of Debian's, for pages that people use."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# Runs as root in a container without a GPU; and must not talk to anybody but the page under test.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
SECONDS = 120.0
"""What a page shows soon is waited for as long as a busy machine may take."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a module; pages of different tests share nothing but the process.

    Not for the session: Playwright keeps an event loop running in this thread, and async tests need one.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("no Chromium on this machine: install Debian's package chromium")
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a context of its own: no cookies, no cache, no permissions from another test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    fresh = context.new_page()
    fresh.set_default_timeout(SECONDS * 1000)
    yield fresh
    context.close()


@pytest.fixture
def browser_touch(browser: Browser) -> Iterator[Page]:
    """The same with the screen and the fingers of a phone."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=3, has_touch=True, is_mobile=True
    )
    fresh = context.new_page()
    fresh.set_default_timeout(SECONDS * 1000)
    yield fresh
    context.close()
