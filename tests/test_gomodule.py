"""What is built from Go modules: once for its sources, or it is said why not. With a Go of ours."""

from pathlib import Path

import pytest

from tests.cluster.program import KUBERNETES
from tests.gomodule import BuildError, GoModule, Unavailable
from tests.services.distribution.program import DISTRIBUTION

GO = """\
#!/bin/sh
case "$1" in
env) echo go1.30.1 ;;
list) {list} ;;
build)
    echo built >>"${{0%/go}}/builds"
    while [ "$1" != -o ]; do shift; done
    echo "$3" >"$2" ;;
esac
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    """One of two programs, and a Go that builds them."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "go.mod").write_text("module ours\n\ngo 1.26.0\n\nrequire example.com/theirs/v2 v2.3.4\n")
    (sources / "go.sum").touch()
    (sources / "main.go").write_text("package main\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    a_go(tmp_path)
    programs = {"small": ("./small",), "big": (".",)}
    return GoModule(sources, tmp_path / "cache", "Theirs", "example.com/theirs/v2", programs)


def a_go(folder: Path, *, list_packages: str = "echo package") -> None:
    go = folder / "go"
    go.write_text(GO.format(list=list_packages))
    go.chmod(0o755)


def test_both_modules_say_their_version() -> None:
    assert KUBERNETES.version.startswith("1.")
    assert DISTRIBUTION.version.startswith("3.")


def test_it_is_built_once_for_its_sources(module: GoModule, tmp_path: Path) -> None:
    builds = tmp_path / "builds"
    assert module.version == "2.3.4"
    folder = module.built()
    assert [(folder / name).read_text() for name in module.programs] == ["./small\n", ".\n"]
    assert module.built() == folder
    assert len(builds.read_text().splitlines()) == 2
    (module.sources / "main.go").write_text("package main // changed\n")
    assert module.built() != folder
    assert len(builds.read_text().splitlines()) == 4


def test_modules_out_of_reach_are_no_fault_of_ours(module: GoModule, tmp_path: Path) -> None:
    a_go(tmp_path, list_packages="echo 'Get \"https://proxy\": dial tcp: refused' >&2; exit 1")
    with pytest.raises(Unavailable, match=r"the Go module proxy cannot be reached: Get .*refused"):
        module.built()
    a_go(tmp_path, list_packages="echo 'main.go:3: syntax error' >&2; exit 1")
    with pytest.raises(BuildError, match="syntax error"):
        module.built()


def test_a_machine_without_go_is_told_what_to_install(
    module: GoModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(Unavailable, match=r"no Go to build Theirs with.*golang-go"):
        module.built()
