"""The program that is all parts of the cluster: built from Go modules once, and kept in the user's cache."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.cluster.places import CACHE, ClusterError, Unavailable
from tests.cluster.say import Clock, say

SOURCES = Path(__file__).parent / "node"
# Fetched as a Go module where the machine's Go is older than the one that go.mod asks for.
TOOLCHAIN = "v0.0.1-go1.24.13"
UNREACHABLE = re.compile(
    r"dial tcp|no such host|connection re|unreachable|time-?out|x509|proxyconnect|GOPROXY|\b(40[34]|50\d)\b",
    re.IGNORECASE,
)


class Program(NamedTuple):
    """Where the two executables are."""

    node: Path
    pause: Path


def program() -> Program:
    """Both, built if they are not there. Raises Unavailable if the modules or Go cannot be had."""
    folder = CACHE / _fingerprint()
    built = Program(folder / "node", folder / "pause")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.node.exists():
            _build(_go(), folder)
    return built


def release() -> str:
    """The release of Kubernetes that go.mod pins, for example 1.34.10."""
    found = re.search(r"^\tk8s\.io/kubernetes v(\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(f"{SOURCES / 'go.mod'} does not require k8s.io/kubernetes")
    return found[1]


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.rglob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(go: str, folder: Path) -> None:
    """Build to another name first: what has its name is whole."""
    clock = Clock()
    say(f"building Kubernetes {release()} from Go modules: once, for some minutes")
    env = _environment()
    listed = _modules(go, ["list", "-deps", "."], cwd=SOURCES, env=env)
    packages = len(listed.splitlines())
    minor = release().split(".")[1]
    stamps = {"gitVersion": f"v{release()}", "gitMajor": "1", "gitMinor": minor}
    flags = " ".join(
        ["-s", "-w"]
        + [f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamps.items()]
        + [f"-X k8s.io/client-go/pkg/version.{key}={value}" for key, value in stamps.items()]
    )
    for name, package in (("pause", "./pause"), ("node", ".")):
        command = [go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags]
        command += ["-o", str(folder / f"{name}.new"), package]
        build = subprocess.Popen(command, cwd=SOURCES, env=env, text=True, stderr=subprocess.PIPE)
        if build.stderr is None:
            raise ClusterError("go build has no output")
        last = _show_progress(build.stderr, packages, clock)
        if build.wait():
            raise ClusterError("Kubernetes cannot be built:\n" + "\n".join(last))
        (folder / f"{name}.new").rename(folder / name)
    clock.say(f"Kubernetes {release()} is built".ljust(70))  # over the longer line before it


def _show_progress(lines: Iterable[str], packages: int, clock: Clock) -> list[str]:
    """One line that changes on a terminal, one line every half minute elsewhere; returns the last lines."""
    last, terminal = [""], sys.stdout.isatty()
    shown = clock.seconds - 25
    for done, line in enumerate(lines, 1):
        last = [*last[-15:], line.rstrip()]
        if clock.seconds - shown > (0.2 if terminal else 30):
            shown = clock.seconds
            text = f"building Kubernetes {release()}: package {done} of at most {packages}"
            clock.say(text, end="\r" if terminal else "\n")
    return last


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
    raise ClusterError(f"go {' '.join(arguments)} failed:\n{text}")


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    ours = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    return {**inherited, **ours}


def _go() -> str:
    """A Go that is new enough: the machine's, or the one that the machine's fetches as a module."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if found is None:
        raise Unavailable("there is no Go to build Kubernetes with. On Debian: apt-get install golang-go")
    text = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    wanted = re.search(r"^go (\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if wanted is None:
        raise ClusterError(f"{SOURCES / 'go.mod'} does not say which Go it needs")
    if _numbers(text) >= _numbers(wanted[1]):
        return found
    machine = subprocess.run([found, "env", "GOOS", "GOARCH"], capture_output=True, text=True, check=True)
    module = f"golang.org/toolchain@{TOOLCHAIN}.{'-'.join(machine.stdout.split())}"
    say(f"Kubernetes needs Go {wanted[1]} or newer: fetching {module}")
    with tempfile.TemporaryDirectory() as empty:
        env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
        answer = _modules(found, ["mod", "download", "-json", module], cwd=Path(empty), env=env)
    folder = Path(json.loads(answer)["Dir"])
    # Files of modules are read-only and never executable.
    for path in [*(folder / "bin").iterdir(), *(folder / "pkg" / "tool").rglob("*")]:
        path.chmod(0o755)
    return str(folder / "bin" / "go")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
