"""Whether a model can be opened and can score: found out before it is pushed, where it can do no harm."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from linkspan.errors import ModelRefused
from linkspan.nouns import Noun, Signature
from linkspan.sandbox.process import Outcome, run_confined
from linkspan.scratch import scratch

_WORKER = Path(__file__).with_name("validate_worker.py")
_GIB = 1 << 30


class Validation(Noun):
    """What was found out. `signature` is None if there was nothing to open.

    `unscored` says of which files no sample could be made, and why. `seconds` is the time it took, `sandbox`
    says how the model was confined, or why nothing was validated.
    """

    signature: Signature | None
    signatures: Mapping[str, Signature] = Field(default_factory=dict)
    unscored: Mapping[str, str] = Field(default_factory=dict)
    seconds: float = Field(ge=0)
    sandbox: str


def validate(files: Mapping[str, Path] | Path, *, timeout: float = 300) -> Validation:
    """Open every `*.onnx` of `files` (a folder, or paths in the model to files) and score a sample of each.

    A sample is made from the model's own inputs: zeros, or random numbers if zeros give none that are finite;
    dimensions that vary are 1, or more if 1 is too small. The signature is that of `model.onnx` or else of
    the first file. Without an ONNX file nothing is validated: then the smoke test is the judge.

    Raises ModelRefused with onnxruntime's own words in one line: not ONNX, truncated, made for a newer
    version, external data missing, outputs that are not finite, a crash, or longer than `timeout` seconds.
    """
    with _folder(files) as folder:
        paths = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx") if path.is_file()
        )
        if not paths:
            return Validation(signature=None, seconds=0, sandbox="no ONNX file, so nothing was opened")
        started = time.monotonic()
        answer, sandbox = _ask(folder, paths, timeout)
        seconds = round(time.monotonic() - started, 3)
    main = min(paths, key=lambda path: (path != "model.onnx", path.count("/"), path))
    return Validation(
        signature=answer.signatures[main],
        signatures=answer.signatures,
        unscored=answer.unscored,
        seconds=seconds,
        sandbox=sandbox,
    )


class _Answer(Noun):
    """What the worker writes. It has read bytes that nobody has vetted, so it is checked like any input."""

    signatures: Mapping[str, Signature] = Field(default_factory=dict)
    unscored: Mapping[str, str] = Field(default_factory=dict)
    refused: str = ""


def _ask(folder: Path, paths: list[str], timeout: float) -> tuple[_Answer, str]:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # onnxruntime copies and repacks weights, and reserves address space that it never touches.
    memory = 16 * _GIB + 8 * size
    outcome = run_confined(_WORKER, paths, cwd=folder, timeout=timeout, memory=memory)
    which = paths[0] if len(paths) == 1 else f"one of {', '.join(paths)}"
    try:
        answer = _Answer.model_validate_json(outcome.stdout)
    except ValidationError:
        answer = None
    fix = "Open and score the model with onnxruntime on your machine, and publish one that works"
    if answer is not None and answer.refused:
        raise ModelRefused(answer.refused, fix=fix)
    if outcome.code != 0 or answer is None or set(answer.signatures) != set(paths):
        limit = f"an answer within {timeout:g} s" if outcome.code is None else ""
        raise ModelRefused(
            f"{which}: the process that opened it {outcome.how}{_last_line(outcome)}", expected=limit, fix=fix
        )
    return answer, _described(outcome.sandbox)


def _described(sandbox: str) -> str:
    """What a kind of confinement is worth, without claiming more."""
    if sandbox == "socket block":
        return "clean environment, no sockets for Python (this machine allows no namespaces)"
    if sandbox.endswith("namespaces"):
        return f"no network, no secrets, nothing writable ({sandbox})"
    return f"no network, clean environment ({sandbox})"


def _last_line(outcome: Outcome) -> str:
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines and outcome.code is not None else ""


@contextmanager
def _folder(files: Mapping[str, Path] | Path) -> Iterator[Path]:
    """The files as one folder, as external data of an ONNX file needs it; linked rather than copied."""
    if isinstance(files, Path):
        yield files.resolve()
        return
    with scratch("validate") as place:
        folder = place.resolve()
        for path, source in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source.resolve(), target)
            except OSError:  # another file system
                shutil.copyfile(source, target)
        yield folder
