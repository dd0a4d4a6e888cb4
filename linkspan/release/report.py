"""The release report: what a person wants to read in the Prefect UI after a rollout."""

from collections.abc import Mapping

from pydantic import Field

from linkspan.nouns import Noun, Revision, short
from linkspan.progress import size
from linkspan.release.plan import Candidate


class Step(Noun):
    """A step of a release: seconds it took, bytes it pushed, whether its result was there already."""

    name: str
    seconds: float = Field(ge=0)
    pushed: int = Field(default=0, ge=0)
    reused: bool = False
    note: str = ""


def release_report(
    revision: Revision,
    *,
    environment: str,
    candidate: Candidate,
    url: str,
    steps: list[Step],
    replaced: Revision | None,
) -> str:
    """Markdown: who and what is in the release, where it runs, what it cost."""
    release = revision.release
    commit, model = release.commit, release.model
    files = "1 file" if model.file_count == 1 else f"{model.file_count} files"
    rows = {
        "Service": f"[{url}]({url})",
        "Started by": _cell(revision.cause),
        "Commit": f"`{short(commit.sha)}` {_cell(commit.subject)}",
        "Author": _cell(commit.author),
        "Model": f"{model.name} **{model.version}**, {size(model.size)} in {files}",
        "Metrics": _cell(metrics(model.metrics)) or "none published",
        "Published by": _cell(model.published_by) or "unknown",
        "Release image": f"`{candidate.reference}`",
        "Layers": _layers(candidate),
        "Model content": f"`{model.digest}`",
        "Reused": _reused(revision, replaced),
        "Replaced": replaced.release.title if replaced else "nothing: the first release",
    }
    lines = [f"# {release.title} → {environment} (revision {revision.number})", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "| Step | Seconds | Pushed | |", "|---|---:|---:|---|"]
    lines += [
        f"| {step.name} | {step.seconds:.2f} | {size(step.pushed)} | "
        f"{'reused' if step.reused else ''}{' ' if step.reused and step.note else ''}{_cell(step.note)} |"
        for step in steps
    ]
    total = sum(step.seconds for step in steps)
    pushed = sum(step.pushed for step in steps)
    lines.append(f"| **Total** | **{total:.2f}** | **{size(pushed)}** | |")
    return "\n".join(lines)


def _layers(candidate: Candidate) -> str:
    """How the linker laid them out: a change makes a node fetch anew what lies above it."""
    named = [
        f"{each.half} {size(each.size)}" + (f" in {each.layers} layers" if each.layers > 1 else "")
        for each in candidate.strata
    ]
    laid = ", below ".join(named) or "as they were"
    if candidate.mount:
        return f"{laid}; the model beside it, mounted from `{candidate.mount.image}`"
    return laid + (f" (not mounted: {_cell(candidate.unmounted)})" if candidate.unmounted else "")


def _reused(revision: Revision, replaced: Revision | None) -> str:
    """Which half of the release was live before: it was neither built nor pushed again."""
    if replaced is None:
        return "nothing"
    new, old = revision.release, replaced.release
    kept = [
        name
        for name, same in (
            ("the code image", new.commit == old.commit),
            ("the model's layers", new.model.digest == old.model.digest),
        )
        if same
    ]
    return " and ".join(kept) or "nothing"


def metrics(values: Mapping[str, float]) -> str:
    """`accuracy 0.981, log_loss 0.07`."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _cell(text: str) -> str:
    # A commit's subject is somebody else's text: it must not break out of its cell, nor become markup.
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_~[]<>|#!&" else char for char in flat)
