"""`linkspan doctor`: checks every address, credential and version, and says how to mend what is wrong."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import columns, out, plain, print_json
from linkspan.errors import ConfigError, LinkspanError, ServerError

if TYPE_CHECKING:
    from linkspan.cli.context import Context

SPARE_BYTES = 2_000_000_000


class Finding(NamedTuple):
    """The result of one check: what was found, or what is wrong and what to do about it."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


def doctor(
    app: AppOption = "", environment: EnvironmentOption = "production", as_json: JsonOption = False
) -> None:
    """Check everything a release needs.

    The exit code is 1 if something is wrong, and every finding says how to mend it.
    """
    findings = [
        _try("python", _python),
        _try("packages", _packages),
        _try("git", _git),
        _try("disk", _disk),
        *_of_service(app, environment),
    ]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        columns(out(), [row for finding in findings for row in _rows(finding)])
        wrong = sum(not finding.ok for finding in findings)
        out().print(f"\n{wrong} of {len(findings)} checks failed." if wrong else "\nAll is well.")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _rows(finding: Finding) -> list[tuple[str, str, str]]:
    mark = "[green]ok[/]" if finding.ok else "[bold red]FAIL[/]"
    rows = [(mark, finding.check, plain(finding.detail))]
    if finding.fix:
        rows.append(("", "", f"[bold]to do:[/] {plain(finding.fix)}"))
    return rows


def _try(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except LinkspanError as error:
        told = type(error)(error.what, expected=error.expected, found=error.found)
        return Finding(name, False, str(told), error.fix)


def _of_service(app: str, environment: str) -> list[Finding]:
    from linkspan.cli.context import Context

    context: Context | None = None

    def prefect() -> str:
        nonlocal context
        context = Context(app, environment)
        return f"{context.server.ui_url}, version {_server_version(context)}"

    first = _try("prefect", prefect)
    if context is None or not first.ok:
        skipped = "not checked while `prefect` fails: the server says where everything is"
        return [first, *(Finding(name, False, skipped) for name in _CHECKS)]
    return [first, *(_try(name, partial(check, context)) for name, check in _CHECKS.items())]


def _python() -> str:
    import platform
    import sys

    from linkspan import __version__

    return f"{platform.python_version()} at {sys.executable}, linkspan {__version__}"


def _packages() -> str:
    """Prefect's own ranges admit versions with which its server breaks; ours do not."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("linkspan") or []]
    except PackageNotFoundError:
        return "linkspan runs from a folder, so nothing says which versions it needs"
    wrong, checked = [], 0
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate():
            continue
        checked += 1
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "not installed"
        if found == "not installed" or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement} (found {found})")
    if wrong:
        raise ConfigError(
            f"wrong versions: {', '.join(wrong)}",
            fix="Install them from the lock file: `pip install -r requirements.lock`",
        )
    return f"{checked} as they should be, Prefect {version('prefect')}"


def _git() -> str:
    import shutil

    path = shutil.which("git")
    if path is None:
        raise ConfigError("git is not installed", fix="Install the package git")
    return path


def _disk() -> str:
    import shutil
    from pathlib import Path
    from tempfile import gettempdir

    from linkspan.progress import size

    folder = Path(gettempdir())
    free = shutil.disk_usage(folder).free
    if free < SPARE_BYTES:
        raise ConfigError(
            f"{folder} is nearly full",
            expected=size(SPARE_BYTES),
            found=size(free),
            fix="Models pass through it: free some, or set TMPDIR to a larger place",
        )
    return f"{size(free)} free in {folder}"


def _server_version(context: "Context") -> str:
    from importlib.metadata import version

    found, ours = context.server.version(), version("prefect")
    if found.split(".")[:2] != ours.split(".")[:2]:
        raise ServerError(
            f"the Prefect server at {context.server.ui_url} is of another version",
            expected=ours,
            found=found,
            fix="Bring both to the version in requirements.lock",
        )
    return found


def _deployments(context: "Context") -> str:
    wanted = {context.app_deployment, context.model_deployment, context.release_deployment}
    found = {each.name: each for each in context.server.deployments() if each.name in wanted}
    if missing := wanted - set(found):
        raise ConfigError(
            f"not deployed: {', '.join(sorted(missing))}",
            fix="Put them into prefect.yaml, then run `linkspan up` or `python -m flows.setup`",
        )
    if paused := sorted(name for name, each in found.items() if each.paused):
        raise ConfigError(
            f"paused, so the schedule starts nothing: {', '.join(paused)}",
            fix="Resume them in the Prefect UI",
        )
    for name in (context.app_deployment, context.model_deployment):
        # Left away, the flow's default is taken: that of the sample app.
        onward = found[name].parameters.get("converge", ["build-and-deploy/digits-production"])
        if context.release_deployment not in onward:
            raise ConfigError(
                f"{name} starts no release of {context.service} when there is something new",
                expected=f"{context.release_deployment} in its parameter `converge`",
                found=", ".join(onward) or "nothing",
                fix="Mend prefect.yaml, then run `linkspan up` or `python -m flows.setup`",
            )
    return ", ".join(sorted(wanted))


def _worker(context: "Context") -> str:
    from linkspan.local.prefect_settings import POOL

    online = [worker.name for worker in context.server.workers(POOL) if worker.online]
    if not online:
        raise ConfigError(
            f"no worker of pool {POOL} is online, so no run would start",
            fix=f"Run `linkspan up`, or `prefect worker start --pool {POOL}`",
        )
    return ", ".join(online)


def _repository(context: "Context") -> str:
    context.source.check()
    commit = context.source.newest()
    if commit is None:
        return f"{context.source.url} is empty: push the first commit"
    context.newest_config  # noqa: B018 raises for a linkspan.toml that cannot be used
    return f"{context.source.url}: newest commit {commit.sha[:7]} {commit.subject}"


def _store(context: "Context") -> str:
    try:
        config, named = context.newest_config, True
    except LinkspanError:  # the repository's own check says why
        config, named = None, False
    store = context.models(config.model.name if config else context.app)
    newest = store.newest()
    if not named:
        return f"{store.url}: may be read; which model is taken from it, the repository does not say"
    if newest is None:
        return f"{store.url}: nothing published yet"
    return f"{store.url}: newest {newest.version or newest.name}"


def _registry(context: "Context") -> str:
    context.registry.check()
    return f"{context.registry.name}: may pull and push"


def _runtime(context: "Context") -> str:
    live = context.runtime.live(context.service)
    mounting = _mounting(context)
    if live is None:
        return f"reachable, nothing is live yet{mounting}"
    return f"{live.release.title} is live at {context.runtime.url(context.service)}{mounting}"


def _mounting(context: "Context") -> str:
    from linkspan.release.pair import mounts_model

    try:
        config = context.newest_config
    except LinkspanError:  # the repository's own check says why
        return ""
    if config is None:
        return ""
    mounts, offer = mounts_model(config, (), context.runtime, context.service)
    if mounts:
        return "; new releases mount their model"
    return f"; models are not mounted: {offer.reason}" if offer.reason else ""


def _builder(context: "Context") -> str:
    return context.builder_settings.open().check()


_CHECKS = {
    "deployments": _deployments,
    "worker": _worker,
    "repository": _repository,
    "store": _store,
    "registry": _registry,
    "builder": _builder,
    "runtime": _runtime,
}
