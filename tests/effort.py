"""How much the tests throw that throw much at something: little each time, all of it by `make test-long`."""

import os

LONG = os.environ.get("LINKSPAN_LONG", "") not in {"", "0"}


def effort(usual: int, long: int) -> int:
    """How many."""
    return long if LONG else usual
