"""`linkspan why`: which commit and which model something runs, since when, and by whom."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from linkspan.cli.options import JsonOption
from linkspan.cli.output import ago, columns, note, out, plain, print_json, warn

if TYPE_CHECKING:
    from linkspan.cli.context import Context
    from linkspan.errors import LinkspanError
    from linkspan.nouns import Revision
    from linkspan.release.why import Answer, Question

EXAMPLES = """\b
Examples:
  linkspan why https://shop.example.org          what users reach there now
  linkspan why shop-search-7d5f9c8b6-x2kqp       a pod, also one that has gone
  linkspan why linkspan-digits-production-r3-0   a container
  linkspan why sha256:3fa9c1d                    an image
"""
VERSION_SECONDS = 5
_MOST_BYTES = 1 << 16


class Seen:
    """A service and its revisions, newest first."""

    def __init__(self, context: "Context", history: "list[Revision]") -> None:
        self.context = context
        self.history = history
        self.name = str(context.service)

    @cached_property
    def url(self) -> str | None:
        """Where users reach it; None if nothing is live, or nobody can from outside of its cluster."""
        from linkspan.errors import ReleaseNotFound
        from linkspan.release.why import live_of

        try:
            return self.context.runtime.url(self.context.service) if live_of(self.history) else None
        except ReleaseNotFound:
            return None


def why(
    what: Annotated[
        str,
        typer.Argument(
            metavar="URL|POD|DIGEST",
            help="A service's address, the name of a pod or container, or 7 characters of an image's digest.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Say why something runs: which commit and model, since when, by whom.

    Asks all environments of all apps that the Prefect server knows.
    """
    from linkspan.cli.context import environments
    from linkspan.release.why import read_question

    question = read_question(what)
    contexts = environments()
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(_look, contexts))
    seen = [look for look in looks if isinstance(look, Seen)]
    problems = [look for look in looks if not isinstance(look, Seen)]
    answers = find(question, seen)
    if not answers and problems:
        raise problems[0]
    for problem in problems:
        warn(f"not asked: {problem}")
    if not answers:
        raise _nothing(question, seen)
    if as_json:
        print_json([each.model_dump(mode="json") for each in answers])
        return
    for number, each in enumerate(answers):
        if number:
            out().print()
        columns(out(), rows(each))


def find(question: "Question", seen: "Sequence[Seen]") -> "list[Answer]":
    """The services in which something answers the question."""
    match question.kind:
        case "url":
            return _at(question.text, seen)
        case "image":
            # A container's ID looks like a digest.
            return _of_image(question.text, seen) or _of_replica(question.text, seen)
        case _:
            return _of_replica(question.text, seen)


def rows(answer: "Answer") -> list[tuple[str, str]]:
    """What a person reads."""
    from linkspan.release.report import metrics

    revision = answer.revision
    release = revision.release
    commit, model = release.commit, release.model
    by = f", published by {model.published_by}" if model.published_by else ""
    measured = f" ({metrics(model.metrics)})" if model.metrics else ""
    where = f" at {answer.url}" if answer.url else ""
    shown = [
        ("Service", answer.service + where),
        ("Release", f"{release.title}, revision {revision.number}"),
        ("State", _state(answer)),
        ("Commit", f"{commit.sha} {commit.subject}, by {commit.author}"),
        ("Model", f"{model.name} {model.version}{measured}{by}"),
        ("Image", release.image),
        ("Rolled out", f"{ago(revision.at)}, {revision.at:%Y-%m-%d %H:%M:%S %Z}"),
        ("Started by", revision.cause),
        ("Flow run", revision.run or "none: from the command line"),
        ("Replaced", _replaced(answer)),
    ]
    if answer.also:
        shown.append(("Same image", "revision " + ", ".join(map(str, answer.also))))
    if answer.found_by == "version":
        shown.append(("Found by", "what it says of itself at /version: no service has that address"))
    return [(f"[bold]{label}[/]", plain(text)) for label, text in shown]


def _state(answer: "Answer") -> str:
    after = answer.replaced_by
    if answer.state == "live":
        return "live, and pinned" if answer.revision.pinned else "live"
    if answer.state == "failed":
        return "failed: " + " ".join(answer.revision.reason.split())
    if after is None:
        return "replaced"
    return f"replaced {ago(after.at)} by revision {after.number} ({after.release.title})"


def _replaced(answer: "Answer") -> str:
    if answer.state == "failed":
        return "nothing: it never went live"
    if answer.replaced:
        return f"revision {answer.replaced.number} ({answer.replaced.release.title})"
    return "nothing: the first release" if answer.complete else "unknown: the history goes back no further"


def _look(context: "Context") -> "Seen | LinkspanError":
    from linkspan.errors import LinkspanError

    try:
        return Seen(context, context.runtime.history(context.service))
    except LinkspanError as error:
        return error


def _at(origin: str, seen: "Sequence[Seen]") -> "list[Answer]":
    from linkspan.release.why import live_of, same_place, that_says

    there = [(each, live_of(each.history)) for each in seen if each.url and same_place(each.url, origin)]
    if found := [_answer(each, live, "url") for each, live in there if live]:
        return found
    note(f"No service has the address {origin}; asking {origin}/version")
    document = _version(origin)
    said = [(each, that_says(each.history, document)) for each in seen]
    answers = [_answer(each, revision, "version") for each, revision in said if revision]
    # The same pair may be in several environments; who answers requests is where it is live.
    return [each for each in answers if each.state == "live"] or answers


def _of_image(digits: str, seen: "Sequence[Seen]") -> "list[Answer]":
    from linkspan.release.why import with_image

    found = [(each, with_image(each.history, digits)) for each in seen]
    return [_answer(each, revision, "image") for each, revision in found if revision]


def _of_replica(name: str, seen: "Sequence[Seen]") -> "list[Answer]":
    from linkspan.errors import ReleaseNotFound
    from linkspan.release.why import with_number

    for each in seen:
        number = each.context.runtime.revision_of(each.context.service, name)
        if number is None:
            continue
        if revision := with_number(each.history, number):
            return [_answer(each, revision, "replica")]
        raise ReleaseNotFound(
            f"{name} belongs to revision {number} of {each.name}, which is not in its history",
            expected=", ".join(str(revision.number) for revision in each.history),
            fix="It is being rolled out, or its rollout was interrupted: `linkspan status` says which",
        )
    return []


def _answer(
    seen: Seen, revision: "Revision", found_by: Literal["url", "version", "image", "replica"]
) -> "Answer":
    from linkspan.release.why import answer

    return answer(seen.name, seen.history, revision, url=seen.url, found_by=found_by)


def _version(origin: str) -> Any:
    """The JSON that an app says about itself; None if there is none to be had."""
    import json

    import httpx

    try:
        with httpx.stream("GET", f"{origin}/version", timeout=VERSION_SECONDS) as response:
            data = b""
            for part in response.iter_bytes(_MOST_BYTES):
                data += part
                if len(data) > _MOST_BYTES:
                    return None
        return json.loads(data)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
        note(f"It does not say which release it is: {error}")
        return None


def _nothing(question: "Question", seen: "Sequence[Seen]") -> "LinkspanError":
    from linkspan.errors import ReleaseNotFound

    services = ", ".join(each.name for each in seen) or "any service"
    if question.kind == "url":
        known = ", ".join(f"{each.url} ({each.name})" for each in seen if each.url)
        return ReleaseNotFound(
            f"nothing that is live here is at {question.text}",
            expected=known or "a service that is live",
            fix="Ask with the name of a pod or container, or with an image's digest",
        )
    what = "image" if question.kind == "image" else "pod or container"
    return ReleaseNotFound(
        f"no revision of {services} has {'an' if what == 'image' else 'a'} {what} {question.text}",
        fix="`linkspan history` lists what each service remembers",
    )
