"""The import rule of DESIGN.md, and that the command line stays quick to start.

flows → blocks → linkspan, flows → linkspan; only flows and blocks know Prefect; app/ and ours know nothing of
each other.
"""

import ast
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("linkspan", "blocks", "flows")
# Who may import whom, of our own and of Prefect. The sample app's package is `scoring`.
GUARDED = {*PACKAGES, "demo", "tests", "prefect", "scoring", "app"}
ALLOWED = {
    "linkspan": {"linkspan"},
    "blocks": {"blocks", "linkspan", "prefect"},
    "flows": {"flows", "blocks", "linkspan", "prefect"},
    "app": {"scoring", "tests", "train", "app"},
}
HEAVY = {"prefect", "boto3", "botocore", "azure", "docker", "onnxruntime", "numpy", "git", "kubernetes"}


def sources(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """Top-level names of what a file imports anywhere in it, by statement or by name."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays in its own package.
            yield "" if node.level else (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in {"import_module", "__import__"} and node.args:
                given = node.args[0]
                if isinstance(given, ast.Constant):
                    yield str(given.value).partition(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_in_one_direction(package: str) -> None:
    files = sources(package)
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if name in GUARDED - ALLOWED[package]
    ]
    assert not wrong


def test_the_rule_would_notice(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "def late():\n    from prefect.client import x\n    import blocks.y\n"
        "    importlib.import_module('flows.setup')\n    from . import z\n"
    )
    assert set(imported(path)) == {"prefect", "blocks", "flows", ""}


# The house, from the roof to the ground: an import leads down, or stays in its room. What lies in linkspan/
# itself are the words that all rooms share.
FLOORS = (
    {"cli"},
    {"webhooks"},
    {"release", "local"},
    {"code", "models"},
    {"runtimes"},
    {"ledger", "sandbox", "prefect_api"},
    {"registry", "stores", "config"},
    {"words"},
)
# Pure functions on values: they reach nothing that speaks to anybody.
PURE = (
    "linkspan.release.converge",
    "linkspan.release.layout",
    "linkspan.release.link",
    "linkspan.release.plan",
)
VALUES = {
    "linkspan.ledger.labels",
    "linkspan.ledger.tags",
    "linkspan.ledger.values",
    "linkspan.registry.media",
}

Arrows = dict[str, set[str]]


@cache
def arrows() -> Arrows:
    """Which module of linkspan/ imports which, wherever in the file: for types, or in a function, too."""
    names = {named(path): path for path in sources("linkspan")}
    found: Arrows = {}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            given = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
            full = (
                {f"{given}.{alias.name}" for alias in node.names}
                if isinstance(node, ast.ImportFrom)
                else set()
            )
            if isinstance(node, ast.Import):
                full = {alias.name for alias in node.names}
            taken = {each if each in names else each.rpartition(".")[0] for each in full} & names.keys()
            found.setdefault(name, set()).update(taken - {name})
    return found


def named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "linkspan" / parts[1]).is_dir() else "words"


def reached(found: Arrows, start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        todo += found.get(one := todo.pop(), set()) - seen
        seen.add(one)
    return seen


def up(found: Arrows) -> list[str]:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return [
        f"{name} imports {other}"
        for name, others in found.items()
        for other in sorted(others)
        if name != "linkspan.__main__"
        and room(name) != room(other)
        and floor[room(name)] >= floor[room(other)]
    ]


def circles(found: Arrows) -> list[str]:
    return [name for name, others in found.items() if any(name in reached(found, each) for each in others)]


def test_imports_lead_down() -> None:
    assert not up(arrows())


def test_there_are_no_circles() -> None:
    assert not circles(arrows())


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in (ROOT / "linkspan").iterdir() if (path / "__init__.py").is_file()}
    assert rooms | {"words"} == set().union(*FLOORS)


def test_the_floors_would_notice() -> None:
    wrong = {
        "linkspan.stores.base": {"linkspan.models.base"},
        "linkspan.models.base": {"linkspan.stores.base"},
    }
    assert up(wrong) == ["linkspan.stores.base imports linkspan.models.base"]
    assert circles(wrong) == list(wrong)
    assert up({"linkspan.code.image": {"linkspan.models.layer"}}), "rooms of one floor are not for each other"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_know_values_only(module: str) -> None:
    known = reached(arrows(), module)
    assert {each for each in known if room(each) not in {"words", "config"}} <= {*PURE, *VALUES}
    assert not modules_after(f"import {module}") & (HEAVY | {"httpx", "requests"})


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported(package: str) -> None:
    for path in sources(package):
        relative = path.relative_to(ROOT).with_suffix("")
        parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
        # Those run by themselves when they are imported.
        if relative.name not in {"__main__", "entry", "validate_worker", "tether"}:
            importlib.import_module(".".join(parts))


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not modules_after("import linkspan.cli") & (HEAVY | {"httpx", "pydantic", "rich", "requests"})


def test_a_trigger_imports_nothing_heavy() -> None:
    """What a git hook calls: it may know HTTP, but no engine, store or model."""
    statement = (
        "from linkspan.cli import main\n"
        "try:\n    main(['trigger', 'commit', '--app', 'a', '--patience', '0'])\nexcept SystemExit:\n    pass"
    )
    server = "import os\nos.environ['PREFECT_API_URL'] = 'http://127.0.0.1:9'\n"
    assert not modules_after(server + statement) & HEAVY


def test_linkspan_never_imports_prefect() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources("linkspan")
        if path.name not in {"__main__.py", "entry.py", "validate_worker.py", "tether.py"}
    ]
    assert "prefect" not in modules_after("import " + ", ".join(modules).replace(".__init__", ""))


def test_the_command_line_starts_quickly() -> None:
    """In seconds of a processor, because others may be at work on this machine."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "linkspan", "--help"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, capture_output=True, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # 0.12 s, of which the interpreter takes 0.01.
    assert min(seconds() for _ in range(5)) < 0.3
