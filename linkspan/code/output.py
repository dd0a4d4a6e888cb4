"""Output of builds and tests on its way to people: whole lines, plain text, no flood."""

import codecs
import re
from collections import deque

from linkspan.plain_text import plain_text
from linkspan.progress import Say

_HELD = 65_536  # characters without an end of line that are kept
_LONGEST = 2000  # characters of a line; a minified file in a traceback is no use to anybody


class Lines:
    """Cuts pieces of output into lines, says each, and remembers the last ones for an error.

    After `most` lines only the last ones are said: a loop that prints must not fill Prefect's database.
    """

    def __init__(self, say: Say, *, remember: int = 20, most: int = 5000) -> None:
        self._say = say
        self._most = most
        self._count = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""
        self.last: deque[str] = deque(maxlen=remember)

    def feed(self, piece: bytes | str) -> None:
        """Take a piece, which may end anywhere, also inside a character."""
        self._held += piece if isinstance(piece, str) else self._decode(piece)
        *whole, self._held = re.split(r"\r\n|\n|\r(?=.)", self._held, flags=re.DOTALL)
        for line in whole:
            self._emit(line)
        if len(self._held) > _HELD:
            self._flush()

    def close(self) -> None:
        """Say what is left: without an end of line, and the last lines of too many."""
        self._flush()
        if self._count > self._most:
            self._say(f"{self._count} lines, of which these are the last:")
            for line in self.last:
                self._say(line)

    def _flush(self) -> None:
        held, self._held = self._held, ""
        if held:
            self._emit(held)

    def _emit(self, line: str) -> None:
        plain = plain_text(line, keep="\t").rstrip()
        if plain:
            plain = plain if len(plain) <= _LONGEST else plain[:_LONGEST] + " …"
            self.last.append(plain)
            self._count += 1
            if self._count <= self._most:
                self._say(plain)
            elif self._count == self._most + 1:
                self._say("That is enough of it; the last lines follow at the end")

    @property
    def tail(self) -> str:
        """The last lines, for an error."""
        return "\n".join(self.last)
