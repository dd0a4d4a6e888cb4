"""The page for people, as one response: during a rollout its parts cannot come from two releases."""

import base64
import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "page"


class Page:
    """The HTML with its style and script inside, and headers that allow exactly those two."""

    def __init__(self, folder: Path = FOLDER) -> None:
        html, style, script = (
            (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
        )
        self.html = html.replace("/*style*/", style).replace("/*script*/", script)
        # CSP Level 3, "hash-source": nothing but these bytes runs, and nothing leaves the host.
        policy = (
            f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
            "connect-src 'self'; img-src 'self' blob: data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
        }


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
