"""On which line of a TOML text a key stands: tomllib does not say, and errors without a line are half errors.

`key_lines` expects a text that tomllib has accepted, so it need not check anything: it only has to know where
keys, strings, arrays and inline tables begin and end (TOML 1.0).
"""

import re
import tomllib

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*")
# Multi-line strings may end in up to two quotes more than the three that close them.
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
_PLAIN = re.compile(r"[^,\]}\n#]*")


def key_lines(text: str) -> dict[Path, int]:
    """Lines, counted from 1, of every key, table and array element, by path: `("smoke", "json", 0) → 12`."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.lengths: dict[Path, int] = {}  # of arrays of tables

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._blank() < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        self._blank()
        path: Path = ()
        parts, line = self._key()
        for number, part in enumerate(parts, start=1):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if array and number == len(parts):
                self.lengths[path] = self.lengths.get(path, 0) + 1
            if path in self.lengths:  # [[a]] then [a.b]: b is in the last a
                path = (*path, self.lengths[path] - 1)
                self.lines.setdefault(path, line)
        self._blank()
        self.at += 2 if array else 1
        return path

    def _pair(self, table: Path) -> None:
        parts, line = self._key()
        path = table
        for part in parts:
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._blank()
        self.at += 1  # =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._blank()
        opening = self.text[self.at]
        if opening in "[{":
            self._group(path, closing="]" if opening == "[" else "}")
            return
        match = _STRING.match(self.text, self.at) or _PLAIN.match(self.text, self.at)
        self.at = match.end() if match else len(self.text)

    def _group(self, path: Path, closing: str) -> None:
        self.at += 1
        index = 0
        while self.text[self._blank()] != closing:
            if self.text[self.at] == ",":
                self.at += 1
            elif closing == "}":
                self._pair(path)
            else:
                self.lines.setdefault((*path, index), self._line())
                self._value((*path, index))
                index += 1
        self.at += 1

    def _key(self) -> tuple[list[str], int]:
        match = _KEY.match(self.text, self.at)
        if match is None:
            raise ValueError(f"no key at character {self.at}; was this text accepted by tomllib?")
        self.at = match.end()
        # tomllib itself takes quotes and escapes off.
        tree = tomllib.loads(f"{match.group()}=0")
        parts = []
        while isinstance(tree, dict):
            ((part, tree),) = tree.items()
            parts.append(part)
        return parts, self._line(match.start())

    def _blank(self) -> int:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at

    def _line(self, at: int | None = None) -> int:
        return self.text.count("\n", 0, self.at if at is None else at) + 1
