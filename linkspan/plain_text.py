"""What others wrote, made harmless: a commit's subject or an app's log may hold what a terminal obeys."""

import re

# ECMA-48: control sequences, operating system commands, and escapes of one character.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")


def plain_text(text: str, keep: str = "") -> str:
    """`text` without terminal sequences and characters that cannot be printed, but for those in `keep`.

    Every kind of white space becomes a blank.
    """
    shown = (" " if char.isspace() and char not in keep else char for char in _ANSI.sub("", text))
    return "".join(char for char in shown if char.isprintable() or char in keep)
