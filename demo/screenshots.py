"""`python -m demo.screenshots`: takes the pictures of the README from a demo that is running.

Needs Chromium on the PATH. The Prefect UI asks for the server's password; it is given the one in its home.
"""

import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from demo.places import APP, ENVIRONMENT, HOME, ROOT
from linkspan.errors import ConfigError
from linkspan.local.home import Home
from linkspan.prefect_api.server import Server
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker.runtime import DockerRuntimeSettings

PICTURES = ROOT / "docs" / "pictures"
# Root needs --no-sandbox; the rest keeps Chromium from calling home, which a closed network refuses.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
SEVEN = [(80, 70), (220, 70), (150, 240)]


def main() -> None:
    """Take all pictures. Raises ConfigError if no demo is running."""
    home = Home(HOME)
    state = home.read_state()
    if state is None:
        raise ConfigError("no demo is running", fix="Run `make demo` in another terminal")
    server = Server(state.api_url, home.auth())
    service = Service(app=APP, environment=ENVIRONMENT)
    url = DockerRuntimeSettings().open().url(service)
    runs = server.recent_runs(f"build-and-deploy/{service}", limit=50, state_types=("COMPLETED",))
    release = next(run for run in runs if run.state_name == "Completed")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        app_page(browser, url, PICTURES / "app.png")
        prefect_page(browser, state.ui_url, f"/runs/flow-run/{release.id}", PICTURES / "run.png")
        report_page(browser, state.ui_url, f"/artifacts/key/{service}-release", PICTURES / "report.png")
        browser.close()
    print(*sorted(str(path.relative_to(ROOT)) for path in PICTURES.iterdir()), sep="\n")


def app_page(browser: Browser, url: str, path: Path) -> None:
    """Draw a seven on the app's page."""
    page = browser.new_page(viewport={"width": 900, "height": 760})
    page.goto(url)
    box = page.locator("canvas").first.bounding_box()
    if box is None:
        raise ConfigError(f"{url} has nothing to draw on")
    scale = box["width"] / 300
    points = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in SEVEN]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=12)
    page.mouse.up()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(800)
    page.screenshot(path=path)
    page.close()


def prefect_page(browser: Browser, ui_url: str, where: str, path: Path) -> None:
    """A page of the Prefect UI, logged in."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    _log_in(page, ui_url)
    page.goto(ui_url + where)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(2500)
    page.screenshot(path=path)
    page.close()


def report_page(browser: Browser, ui_url: str, where: str, path: Path) -> None:
    """The newest report of a service."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    _log_in(page, ui_url)
    page.goto(ui_url + where)
    page.get_by_text(re.compile("^[0-9a-f]{8}$")).first.click()
    page.get_by_text("Release image").first.wait_for()
    page.screenshot(path=path)
    page.close()


def _log_in(page: Page, ui_url: str) -> None:
    # Where the UI itself keeps what a person types into its login page.
    password = Home(HOME).auth().get_secret_value()
    page.goto(ui_url)
    page.evaluate("text => localStorage.setItem('prefect-password', btoa(text))", password)


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(str(error))
