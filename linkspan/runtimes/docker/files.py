"""Files in a container as bytes, and what the volume's files and the probe's output say."""

import io
import tarfile
from collections.abc import Iterable, Mapping

from docker.errors import NotFound
from docker.models.containers import Container

from linkspan.nouns import Revision
from linkspan.runtimes.readiness import Probe

KEEP = 50
"""Revisions that are remembered."""

PROBE = """mark=$1 looks=$2; shift 2
for url in "$@"; do
    while [ "$looks" -gt 0 ]; do
        case $(curl -gs -m 5 -o /dev/null -w '%{http_code}' "$url") in 2*) break ;; esac
        looks=$((looks - 1)); sleep 0.1
    done
done
for url in "$@"; do
    curl -gs -m 5 -w "\\n%{http_code} %{errormsg}\\n$mark\\n" "$url" || true
done"""
"""Run in a container: asks every URL, for `read_probes`, after $2 looks at most for all to be ready.

$1 ends each answer: no body of an app may hold it.
"""


def history_of(live: Revision | None, kept: Iterable[Revision]) -> list[Revision]:
    """The revisions as they are now: what is live says which of the others were replaced.

    One that is newer than the live one and did not fail was interrupted before it had traffic: it never was.
    """
    by_number = {revision.number: revision for revision in kept}
    if live is not None:
        by_number[live.number] = live
    number = live.number if live else 0
    return [
        revision
        if revision.outcome == "failed" or revision.number == number
        else revision.with_outcome("replaced")
        for _, revision in sorted(by_number.items(), reverse=True)
        if revision.outcome == "failed" or revision.number <= number
    ][:KEEP]


def read_probes(output: str, mark: str, count: int) -> list[Probe]:
    """What PROBE printed for `count` URLs."""
    probes = [read_probe(answer) for answer in output.split(f"\n{mark}\n")[:-1]]
    return probes + [Probe(error="no answer")] * (count - len(probes))


def read_probe(answer: str) -> Probe:
    body, _, last = answer.rpartition("\n")
    status, _, error = last.partition(" ")
    if status.isdigit() and int(status):
        return Probe(status=int(status), body=body)
    return Probe(error=error or "no answer")


def tar_of(files: Mapping[str, bytes], folders: Iterable[str], owner: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, owner, owner
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o644, owner, owner
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def files_in(container: Container, path: str) -> dict[str, bytes]:
    """The files at a path in a container, by their last name. None is not an error."""
    try:
        chunks, _ = container.get_archive(path)
    except NotFound:
        return {}
    data = io.BytesIO(b"".join(chunks))
    with tarfile.open(fileobj=data) as tar:
        files = {entry.name.rsplit("/", 1)[-1]: tar.extractfile(entry) for entry in tar if entry.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}
