"""Types commands, in this process or in one of their own."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from linkspan.cli import main, output


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)

    @property
    def says(self) -> str:
        """All that a person reads, with the line breaks of the layout taken out."""
        return " ".join(f"{self.out} {self.err}".split())


def linkspan(*arguments: str) -> Result:
    """Run `linkspan …` in this process, as into a pipe."""
    output.out.cache_clear()
    output.err.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([*arguments])
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int), code
    return Result(code, out.getvalue(), err.getvalue())


def shell(*arguments: str, **environment: str) -> Result:
    """Run `linkspan …` as a process, as a script does."""
    done = subprocess.run(
        [sys.executable, "-m", "linkspan", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def on_terminal(*arguments: str, columns: int = 80) -> list[str]:
    """The lines that a terminal of that width shows."""
    master, slave = os.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "TERM": "dumb"}
    with subprocess.Popen(
        [sys.executable, "-m", "linkspan", *arguments],
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        text = b""
        try:
            while chunk := os.read(master, 65536):
                text += chunk
        except OSError:  # EIO is how a pseudo-terminal says that its other end is closed
            process.wait(240)
        finally:
            os.close(master)
    return text.decode().splitlines()
