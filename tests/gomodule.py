"""Programs that the tests need and no package has: built from Go modules once, kept in the user's cache."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.say import Clock, say

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linkspan"
# Fetched as a Go module where the machine's Go is older than the one that a go.mod asks for.
TOOLCHAIN = "v0.0.1-go1.26.11"
UNREACHABLE = re.compile(
    r"dial tcp|no such host|connection re|unreachable|time-?out|x509|proxyconnect|GOPROXY|\b(40[34]|50\d)\b",
    re.IGNORECASE,
)


class Unavailable(Exception):
    """This machine cannot have something now, for a reason that no change of ours mends."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class BuildError(Exception):
    """It should have been built and was not."""

    exit_code = 1


@dataclass(frozen=True)
class GoModule:
    """A module of ours around a project's, with the programs that are built of it."""

    sources: Path
    """Where its go.mod is."""
    cache: Path
    """A folder for all its builds, each under the fingerprint of its sources."""
    project: str
    """Which one, as people call it."""
    path: str
    """The project's module, whose version go.mod pins."""
    programs: Mapping[str, Sequence[str]]
    """What `go build` is told of each, in the order in which they are built; a package at its end."""
    stamps: Callable[[str], Mapping[str, str]] = lambda version: {}
    """Variables that the linker sets, from the version."""

    @property
    def version(self) -> str:
        """Of the project, without the `v`."""
        found = re.search(rf"^(?:require )?\s*{re.escape(self.path)} v(\S+)", self._go_mod, re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.sources / 'go.mod'} does not require {self.path}")
        return found[1]

    def built(self) -> Path:
        """The folder of the programs, built if they are not there.

        Raises Unavailable if the modules or Go cannot be had.
        """
        folder = self.cache / self._fingerprint()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not all((folder / name).exists() for name in self.programs):
                self._build(self._go(), folder)
        return folder

    @property
    def _name(self) -> str:
        return f"{self.project} {self.version}"

    @property
    def _go_mod(self) -> str:
        return (self.sources / "go.mod").read_text()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in sorted([*self.sources.rglob("*.go"), self.sources / "go.mod", self.sources / "go.sum"]):
            digest.update(f"{path.relative_to(self.sources)}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    def _build(self, go: str, folder: Path) -> None:
        """Build to another name first: what has its name is whole."""
        clock = Clock()
        say(f"building {self._name} from Go modules: once, for some minutes")
        env = _environment()
        listed = _modules(go, ["list", "-deps", "."], cwd=self.sources, env=env)
        packages = len(listed.splitlines())
        stamps = self.stamps(self.version)
        flags = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in stamps.items())])
        for name, arguments in self.programs.items():
            # Others work on this machine meanwhile.
            command = ["nice", go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags]
            command += ["-o", str(folder / f"{name}.new"), *arguments]
            build = subprocess.Popen(command, cwd=self.sources, env=env, text=True, stderr=subprocess.PIPE)
            if build.stderr is None:
                raise BuildError("go build has no output")
            last = self._show_progress(build.stderr, packages, clock)
            if build.wait():
                raise BuildError(f"{self.project} cannot be built:\n" + "\n".join(last))
            (folder / f"{name}.new").rename(folder / name)
        clock.say(f"{self._name} is built".ljust(70))  # over the longer line before it

    def _show_progress(self, lines: Iterable[str], packages: int, clock: Clock) -> list[str]:
        """One line that changes on a terminal, one every half minute elsewhere; returns the last lines."""
        last, terminal = [""], sys.stdout.isatty()
        shown = clock.seconds - 25
        for done, line in enumerate(lines, 1):
            last = [*last[-15:], line.rstrip()]
            if clock.seconds - shown > (0.2 if terminal else 30):
                shown = clock.seconds
                text = f"building {self._name}: package {done} of at most {packages}"
                clock.say(text, end="\r" if terminal else "\n")
        return last

    def _go(self) -> str:
        """A Go that is new enough: the machine's, or the one that the machine's fetches as a module."""
        found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
        if found is None:
            raise Unavailable(
                f"there is no Go to build {self.project} with. On Debian: apt-get install golang-go"
            )
        text = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
        wanted = re.search(r"^go (\S+)", self._go_mod, re.MULTILINE)
        if wanted is None:
            raise BuildError(f"{self.sources / 'go.mod'} does not say which Go it needs")
        if _numbers(text) >= _numbers(wanted[1]):
            return found
        machine = subprocess.run([found, "env", "GOOS", "GOARCH"], capture_output=True, text=True, check=True)
        module = f"golang.org/toolchain@{TOOLCHAIN}.{'-'.join(machine.stdout.split())}"
        say(f"{self.project} needs Go {wanted[1]} or newer: fetching {module}")
        with tempfile.TemporaryDirectory() as empty:
            env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
            answer = _modules(found, ["mod", "download", "-json", module], cwd=Path(empty), env=env)
        folder = Path(json.loads(answer)["Dir"])
        # Files of modules are read-only and never executable.
        for path in [*(folder / "bin").iterdir(), *(folder / "pkg" / "tool").rglob("*")]:
            path.chmod(0o755)
        return str(folder / "bin" / "go")


def _modules(go: str, arguments: list[str], *, cwd: Path, env: dict[str, str]) -> str:
    """Run a command of Go that downloads modules."""
    try:
        done = subprocess.run(
            [go, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("the Go module proxy does not answer: no modules after 600 s") from None
    if done.returncode == 0:
        return done.stdout
    text = (done.stderr + done.stdout).strip()
    for line in text.splitlines():
        if UNREACHABLE.search(line):
            raise Unavailable(f"the Go module proxy cannot be reached: {line.strip()}")
    raise BuildError(f"go {' '.join(arguments)} failed:\n{text}")


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    ours = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    return {**inherited, **ours}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
