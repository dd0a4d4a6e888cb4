"""The page for people, in a real browser with a real model: draw, upload, use the keyboard, see errors."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from tests.services.sample_app import APP, RunApp, RunningApp

Stroke = list[tuple[float, float]]

# As a person moves a mouse: corners of a few strokes, between 0 and 1 of the sheet.
DIGITS: dict[str, list[Stroke]] = {
    "0": [[(0.50, 0.15), (0.36, 0.22), (0.28, 0.40), (0.28, 0.60), (0.36, 0.78), (0.50, 0.85), (0.64, 0.78),
           (0.72, 0.60), (0.72, 0.40), (0.64, 0.22), (0.50, 0.15)]],
    "1": [[(0.40, 0.28), (0.53, 0.14), (0.52, 0.86)]],
    "2": [[(0.30, 0.30), (0.38, 0.17), (0.55, 0.14), (0.68, 0.26), (0.64, 0.42), (0.45, 0.64), (0.28, 0.84),
           (0.72, 0.84)]],
    "3": [[(0.30, 0.20), (0.50, 0.13), (0.66, 0.24), (0.60, 0.40), (0.44, 0.47), (0.62, 0.54), (0.70, 0.70),
           (0.56, 0.85), (0.30, 0.80)]],
    "4": [[(0.55, 0.12), (0.25, 0.60), (0.78, 0.60)], [(0.62, 0.34), (0.60, 0.90)]],
    "5": [[(0.68, 0.14), (0.36, 0.14), (0.33, 0.44), (0.52, 0.40), (0.68, 0.52), (0.66, 0.74), (0.50, 0.86),
           (0.30, 0.80)]],
    "6": [[(0.62, 0.12), (0.42, 0.30), (0.33, 0.56), (0.36, 0.78), (0.50, 0.87), (0.66, 0.78), (0.66, 0.60),
           (0.52, 0.52), (0.36, 0.62)]],
    "7": [[(0.26, 0.17), (0.74, 0.17), (0.56, 0.48), (0.42, 0.87)]],
    "8": [[(0.50, 0.48), (0.36, 0.36), (0.38, 0.20), (0.52, 0.13), (0.65, 0.22), (0.62, 0.38), (0.50, 0.48),
           (0.35, 0.62), (0.36, 0.80), (0.51, 0.87), (0.66, 0.78), (0.64, 0.62), (0.50, 0.48)]],
    "9": [[(0.66, 0.34), (0.52, 0.46), (0.37, 0.36), (0.40, 0.20), (0.56, 0.14), (0.67, 0.24), (0.66, 0.40),
           (0.60, 0.66), (0.50, 0.88)]],
}  # fmt: skip


@pytest.fixture
def opened(page: Page, digits_service: RunningApp) -> Iterator[Page]:
    """The page, open; afterwards: nothing was asked of another host, and the console is clean."""
    said: list[str] = []
    asked: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            said.append(message.text)

    def see(request: Request) -> None:
        asked.append(request.url)

    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", see)
    page.goto(digits_service.url + "/")
    yield page
    assert [url for url in asked if not url.startswith((digits_service.url + "/", "data:", "blob:"))] == []
    # A refusal that a test provokes is logged by Chromium itself.
    assert [text for text in said if "the server responded with a status of" not in text] == []


def draw(page: Page, strokes: list[Stroke]) -> None:
    box = page.get_by_label("Drawing area").bounding_box()
    assert box is not None
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawn_digit_is_recognised(opened: Page, digit: str) -> None:
    draw(opened, DIGITS[digit])
    expect(opened.locator("#label")).to_have_text(digit)
    best = opened.locator("#bars .best")
    expect(best).to_have_count(1)
    expect(best.locator(".name")).to_have_text(digit)
    expect(opened.locator("#commit")).to_have_text("3fa9c1d")
    expect(opened.locator("#model")).to_have_text("digits v12")
    expect(opened.locator("#digest")).to_have_text("ab12ab12ab12")


def test_clear_and_undo(opened: Page) -> None:
    clear, undo = opened.get_by_role("button", name="Clear"), opened.get_by_role("button", name="Undo")
    expect(clear).to_be_disabled()
    draw(opened, DIGITS["4"])
    expect(opened.locator("#label")).to_have_text("4")
    undo.click()
    expect(opened.locator("#label")).not_to_have_text("4")
    clear.click()
    expect(opened.get_by_text("Nothing drawn yet")).to_be_visible()
    expect(opened.get_by_text("Draw here")).to_be_visible()
    expect(undo).to_be_disabled()


def test_an_uploaded_picture(opened: Page, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "train.py", "--samples", str(tmp_path), "--each", "1"], cwd=APP, check=True
    )
    labels = json.loads((tmp_path / "labels.json").read_text())
    assert len(labels) == 10
    for name in ("0-1.png", "7-1.png"):
        opened.get_by_label("Choose an image").set_input_files(tmp_path / name)
        expect(opened.locator("#label")).to_have_text(labels[name])
    expect(opened.get_by_role("button", name="Clear")).to_be_enabled()


def test_an_error_is_shown_and_goes_away(opened: Page) -> None:
    upload = opened.get_by_label("Choose an image")
    upload.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"not a picture"})
    expect(opened.get_by_role("alert")).to_have_text("input[0] is not a PNG or JPEG image")
    draw(opened, DIGITS["1"])
    expect(opened.locator("#label")).to_have_text("1")
    expect(opened.get_by_role("alert")).to_be_hidden()


def test_a_service_without_a_model_says_so(page: Page, run_app: RunApp, tmp_path: Path) -> None:
    app = run_app(tmp_path / "nothing")
    page.goto(app.url + "/")
    draw(page, DIGITS["1"])
    expect(page.get_by_role("alert")).to_contain_text("nothing")
    app.child.stop()
    draw(page, DIGITS["1"])
    expect(page.get_by_role("alert")).to_have_text("The service cannot be reached.")


def test_a_new_release_is_noticed(opened: Page) -> None:
    expect(opened.locator("#model")).to_have_text("digits v12")
    newer = {
        "commit": "f" * 40,
        "model": {"name": "digits", "version": "v13", "digest": "sha256:" + "0" * 64},
    }
    opened.route("**/version", lambda route: route.fulfill(json=newer))
    expect(opened.locator("#model")).to_have_text("digits v13")
    expect(opened.get_by_text("A new release is answering now.")).to_be_visible()


def test_the_keyboard_is_enough(opened: Page) -> None:
    opened.keyboard.press("Tab")
    expect(opened.get_by_label("Drawing area")).to_be_focused()
    opened.keyboard.press("Space")
    for _ in range(13):
        opened.keyboard.press("ArrowDown")
    opened.keyboard.press("Space")
    expect(opened.locator("#label")).to_have_text("1")
    opened.keyboard.press("Tab")
    expect(opened.get_by_role("button", name="Undo")).to_be_focused()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    expect(opened.get_by_label("Choose an image")).to_be_focused()
    opened.get_by_label("Drawing area").focus()
    opened.keyboard.press("Escape")
    expect(opened.get_by_text("Nothing drawn yet")).to_be_visible()


def test_names_and_language(opened: Page) -> None:
    assert opened.locator("html").get_attribute("lang") == "en"
    expect(opened).to_have_title("Digits: draw one, see what the model thinks")
    expect(opened.get_by_role("heading", level=1)).to_have_count(1)
    for heading in ("Drawing", "Prediction", "Answered by"):
        expect(opened.get_by_role("heading", name=heading, level=2)).to_have_count(1)
    expect(
        opened.get_by_role("list", name="Probability of each label").get_by_role("listitem")
    ).to_have_count(10)
    unnamed = opened.locator("button, input, canvas").evaluate_all(
        "all => all.filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).length"
    )
    assert unnamed == 0


# WCAG 2.2, 1.4.3: text needs a contrast of 4.5 with what is behind it.
CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("h1,h2,p,dt,dd,label,.name,.value,.label,.sure,button:enabled")]
    .filter((e) => e.checkVisibility() && e.textContent.trim() && !e.classList.contains("hidden"))
    .map((e) => {
      const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
      return [e.id || e.className || e.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    }).filter(([, ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_it_can_be_read_in_any_light_and_on_a_phone(
    opened: Page, scheme: str, size: tuple[int, int], tmp_path: Path
) -> None:
    opened.emulate_media(color_scheme="light" if scheme == "light" else "dark")
    opened.set_viewport_size({"width": size[0], "height": size[1]})
    draw(opened, DIGITS["3"])
    expect(opened.locator("#label")).to_have_text("3")
    assert opened.evaluate(CONTRAST) == []
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Sheet, answer and bars together on the screen: nobody scrolls to see what they drew.
    bars = opened.locator("#bars").bounding_box()
    assert bars is not None
    assert bars["y"] + bars["height"] <= size[1]
    opened.screenshot(path=tmp_path / f"page-{size[0]}-{scheme}.png", full_page=True, animations="disabled")


def test_fingers_draw_too(browser_touch: Page, digits_service: RunningApp) -> None:
    page = browser_touch
    page.goto(digits_service.url + "/")
    box = page.get_by_label("Drawing area").bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    for number in range(25):
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] * (0.15 + 0.028 * number)}
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#label")).to_have_text("1")
    assert page.evaluate("scrollY") == 0
