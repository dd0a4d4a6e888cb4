"""`linkspan doctor`: checks every address, credential and version, and says how to mend what is wrong."""

import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

import typer
from pydantic import BaseModel
from rich.markup import escape

from linkspan import __version__, docker_engine
from linkspan.cli.context import AppOption, Context, EnvironmentOption, JsonOption
from linkspan.cli.output import out, print_json
from linkspan.errors import ConfigError, LinkspanError
from linkspan.local.prefect_settings import POOL
from linkspan.newest import newest_config
from linkspan.report import size

SPARE_BYTES = 2_000_000_000


class Finding(BaseModel):
    """The result of one check; `detail` is what was found, or the error with what to do."""

    check: str
    ok: bool
    detail: str


def doctor(
    app: AppOption = "", environment: EnvironmentOption = "production", as_json: JsonOption = False
) -> None:
    """Check everything a release needs. Exit code 1 if something is wrong."""
    findings = [_try("python", _python), _try("git", _git), _try("disk", _disk)]
    context: Context | None = None

    def prefect() -> str:
        nonlocal context
        context = Context(app, environment)
        return f"{context.engine.ui_url}, version {context.engine.version()}"

    findings.append(_try("prefect", prefect))
    if context is not None:
        findings += [_try(name, check) for name, check in _checks(context)]
    if as_json:
        print_json([finding.model_dump() for finding in findings])
    else:
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
            out.print(f"{mark} {finding.check:<12} {escape(finding.detail)}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _checks(context: Context) -> list[tuple[str, Callable[[], str]]]:
    return [
        ("deployments", lambda: _deployments(context)),
        ("worker", lambda: _worker(context)),
        ("repository", lambda: _repository(context)),
        ("store", lambda: _store(context)),
        ("registry", lambda: _registry(context)),
        ("builder", lambda: _builder(context)),
        ("runtime", lambda: _runtime(context)),
    ]


def _try(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, ok=True, detail=check())
    except LinkspanError as error:
        return Finding(check=name, ok=False, detail=str(error))


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}, linkspan {__version__}"


def _git() -> str:
    path = shutil.which("git")
    if path is None:
        raise ConfigError("git is not installed", fix="Install the package git")
    return path


def _disk() -> str:
    folder = Path(gettempdir())
    free = shutil.disk_usage(folder).free
    if free < SPARE_BYTES:
        raise ConfigError(
            f"{folder} is nearly full",
            expected=size(SPARE_BYTES),
            found=size(free),
            fix="Models pass through it: free some",
        )
    return f"{size(free)} free in {folder}"


def _deployments(context: Context) -> str:
    names = {each.name for each in context.engine.deployments()}
    wanted = {context.app_deployment, context.model_deployment, context.release_deployment}
    if missing := wanted - names:
        raise ConfigError(f"not deployed: {', '.join(sorted(missing))}", fix="Run `prefect deploy --all`")
    return ", ".join(sorted(wanted))


def _worker(context: Context) -> str:
    online = [worker.name for worker in context.engine.workers(POOL) if worker.online]
    if not online:
        raise ConfigError(
            f"no worker of pool {POOL} is online, so no run would start",
            fix=f"Run `linkspan up`, or `prefect worker start --pool {POOL}`",
        )
    return ", ".join(online)


def _repository(context: Context) -> str:
    context.source.check()
    commit = context.source.newest()
    return f"newest commit {commit.sha[:7]} {commit.subject}" if commit else "reachable, and empty"


def _store(context: Context) -> str:
    config = newest_config(context.source)
    store = context.models(config.model.name if config else context.app)
    newest = store.newest()
    return (
        f"{store.url}: newest {newest.version or newest.name}"
        if newest
        else f"{store.url}: nothing published yet"
    )


def _registry(context: Context) -> str:
    context.registry.check()
    return f"{context.registry.name}: may pull and push"


def _builder(context: Context) -> str:
    version = docker_engine.engine(context.builder_settings.base_url).version()["Version"]
    return f"Docker Engine {version}"


def _runtime(context: Context) -> str:
    live = context.runtime.live(context.service)
    return (
        f"live: {live.release.title} at {context.runtime.url(context.service)}"
        if live
        else "reachable, nothing is live yet"
    )
