"""Whatever has a name is in the reference, as it is in the code, and what the documents name is there."""

import ast
import inspect
import re
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from blocks import ALL
from flows import app_stream, build_and_deploy, coalesce, model_stream, poll
from linkspan import errors, events
from linkspan.cli import EXIT_CODES, SECTIONS, app, links
from linkspan.config import AppConfig
from linkspan.errors import LinkspanError
from linkspan.ledger.labels import APP, COMMIT, CONFIG, MODEL, OBJECTS

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
ERRORS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, LinkspanError)]


def section(heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    start = REFERENCE.index(heading + "\n") if f"{heading}\n" in REFERENCE else -1
    assert start >= 0, f"docs/reference.md has no {heading!r}"
    rest = REFERENCE[start + len(heading) :]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_in_the_reference(name: str) -> None:
    [heading] = re.findall(rf"^### `linkspan {name}\b.*$", REFERENCE, re.MULTILINE)
    text = section(heading)
    common = section("## Commands").partition("\n### ")[0]
    for parameter in COMMANDS[name].params:
        for option in parameter.opts + parameter.secondary_opts:
            if option.startswith("-") and option not in {"--help", "-h"}:
                assert f"`{option}`" in text + common, (
                    f"{option} of linkspan {name} is not in docs/reference.md"
                )
    documented = set(re.findall(r"`(--[a-z-]+)`", text))
    known = {
        option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts
    }
    others = {
        option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts
    }
    assert not documented - known - others, f"docs/reference.md gives linkspan {name} options that it has not"


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert not [name for section in SECTIONS.values() for name in section if f"linkspan {name}" not in text]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_command_or_option_that_is_not_there(document: Path) -> None:
    used = re.findall(r"(?:^|[`\s/])linkspan ([a-z]+)\b([^`\n#|]*)", document.read_text())
    for name, rest in used:
        if name not in COMMANDS:
            continue  # prose: "linkspan never imports prefect"
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        if name != "run":
            wrong = set(re.findall(r"(?<!\S)(--[a-z-]+)", rest)) - known - {"--help", "--no-wait"}
            assert not wrong, f"{document.name}: linkspan {name} has no {wrong}"
    in_code = re.findall(r"`linkspan ([a-z]+)", document.read_text())
    assert not set(in_code) - set(COMMANDS)


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_there_with_its_code(kind: type[LinkspanError]) -> None:
    again = "✓" if kind.retriable else ""
    row = rf"^\| {kind.exit_code} \| `{kind.__name__}` \| ?{again} ?\| \S"
    assert re.search(row, REFERENCE, re.MULTILINE), f"| {kind.exit_code} | `{kind.__name__}` | {again} | …"


def test_no_error_is_there_that_is_not_in_the_code() -> None:
    named = re.findall(r"^\| \d+ \| `(\w+)` \|", REFERENCE, re.MULTILINE)
    assert sorted(named) == sorted(kind.__name__ for kind in ERRORS)
    codes = {kind.exit_code for kind in ERRORS} | {0, 130}
    assert {int(code) for code in re.findall(r"(?<!\S)(\d+) {1,4}\S", EXIT_CODES)} == codes


def keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The keys of linkspan.toml; `<name>` stands for what the user calls an environment."""
    for name, field in kind.model_fields.items():
        key = prefix + (field.alias or name)
        inner = [
            each for each in (field.annotation, *typing.get_args(field.annotation)) if inspect.isclass(each)
        ]
        sections = [each for each in inner if issubclass(each, BaseModel)]
        if not sections:
            yield key
        for each in sections:
            yield from keys(
                each, f"{key}.<name>." if typing.get_origin(field.annotation) is dict else f"{key}."
            )


def test_every_key_of_linkspan_toml_is_there() -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", section("## linkspan.toml"), re.MULTILINE)
    assert sorted(documented) == sorted(keys(AppConfig))
    assert len(documented) > 15


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_block_and_field_is_there(kind: type[BaseModel]) -> None:
    slug = kind._block_type_slug  # type: ignore[attr-defined]
    assert slug in links.SETTINGS
    text = section(f"### `{slug}` (`{kind.__name__}`)")
    fields = {
        name: f"**`{name}`**" if field.is_required() else f"`{name}`"
        for name, field in kind.model_fields.items()
    }
    shown = re.findall(r"^\| (\**`\w+`\**) \|", text, re.MULTILINE)
    assert sorted(shown) == sorted(fields.values())
    for name, field in kind.model_fields.items():
        secret = "SecretStr" in str(field.annotation)
        [row] = re.findall(rf"^\| \**`{name}`\** \|.*$", text, re.MULTILINE)
        assert ("secret" in row.split("|", 2)[2]) == secret, row


def test_every_parameter_of_the_flows_is_there() -> None:
    text = section("## Deployments")
    flows = (app_stream.app_stream, model_stream.model_stream, build_and_deploy.build_and_deploy, poll.poll)
    names = {name for flow in flows for name in inspect.signature(flow.fn).parameters}
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == names


def test_every_state_event_label_and_tag_is_there() -> None:
    sources = "".join(path.read_text() for path in sorted((ROOT / "flows").glob("*.py")))
    states = set(re.findall(r'Completed\(\s*name="(\w+)"', sources))
    states |= {*build_and_deploy.QUIET.values(), coalesce.SUPERSEDED, "AwaitingRetry"}
    assert {"Waiting", "Repaired", "Pinned"} <= states
    assert set(re.findall(r"^\| `(\w+)` \|", section("## States of runs"), re.MULTILINE)) == states

    registry = section("## In the registry")
    assert not [label for label in (APP, COMMIT, CONFIG, OBJECTS, MODEL) if f"`{label}`" not in registry]
    tags = (ROOT / "linkspan" / "ledger" / "tags.py").read_text()
    made = set(re.findall(r'return f?"([a-z]+)-', tags))
    assert made == set(re.findall(r"^\| `([a-z]+)-", registry, re.MULTILINE))


def test_the_events_in_the_reference_are_those_that_there_are() -> None:
    text = section("## Events")
    assert re.findall(r"^\| `(linkspan\.[\w.-]+)` \| (.+) \|$", text, re.MULTILINE) == [*events.FEED.items()]
    before, _, _ = text.partition("| Event |")
    assert set(re.findall(r"`(linkspan\.hint\.\w+)`", before)) == events.HINTS


def test_every_event_is_emitted_by_something_and_no_name_is_written_twice() -> None:
    strings = {name: value for name, value in vars(events).items() if isinstance(value, str)}
    constants = {name: value for name, value in strings.items() if value in {*events.FEED, *events.HINTS}}
    emitted: set[str] = set()
    for path in [*(ROOT / "linkspan").rglob("*.py"), *(ROOT / "flows").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if path.name != "events.py" and isinstance(node, ast.Constant):
                assert node.value not in constants.values(), f"{path} repeats {node.value!r}"
            # `announce(EVENT, …)` in a flow, `server.emit(EVENT, …)` elsewhere.
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if called in {"announce", "emit"}:
                    emitted.add(constants.get(node.args[0].id, ""))
    assert emitted - {""} == set(events.FEED), "hints come from outside; all others from us"


def test_the_map_has_every_room_and_names_no_file_that_is_not_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Decisions")[0]
    rooms = {path.parent.name for path in (ROOT / "linkspan").glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()
    named = re.findall(r"`((?:linkspan|tests|blocks|docs|scripts|flows)/[\w./]+)`", text)
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_variable_is_there() -> None:
    files = subprocess.run(
        ["git", "ls-files", "linkspan", "flows", "demo", "scripts"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    used = {
        name for file in files for name in re.findall(r"\bLINKSPAN_[A-Z_]*[A-Z]\b", (ROOT / file).read_text())
    }
    private = {"LINKSPAN_LOCAL_MARK"}  # how we know our own processes
    assert not {name for name in used - private if f"`{name}`" not in REFERENCE}


def test_prefect_yaml_leaves_no_name_to_a_default() -> None:
    """A copy for another app would silently use the sample app's."""
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    flows: dict[str, Any] = {
        "app-stream": app_stream.app_stream,
        "model-stream": model_stream.model_stream,
        "build-and-deploy": build_and_deploy.build_and_deploy,
        "poll": poll.poll,
    }
    for deployment in document["deployments"]:
        parameters = inspect.signature(flows[deployment["flow_name"]].fn).parameters
        named = {name for name, each in parameters.items() if "digits" in str(each.default)}
        assert named
        assert named <= set(deployment["parameters"]), deployment["flow_name"]
