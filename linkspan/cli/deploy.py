"""`linkspan deploy`: release on purpose, also where an environment is pinned or a pair was held back."""

from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import note, out, plain, print_json, whoami

if TYPE_CHECKING:
    from linkspan.cli.context import Context

EXAMPLES = """\b
Examples:
  linkspan deploy                    the newest commit and the newest model
  linkspan deploy --commit 3fa9c1d   that commit and the newest model
  linkspan deploy --model v12        the newest commit and that model
"""


def deploy(
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    commit: Annotated[
        str, typer.Option(metavar="SHA", help="This commit instead of the newest; seven characters do.")
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="VERSION", help="This model version instead of the newest.")
    ] = "",
    wait: Annotated[
        bool, typer.Option(help="Wait for the rollout, not only for build and packaging.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Release the newest pair, or a named commit or model.

    It goes where the flows do not go by themselves: it releases a pinned environment, and tries again what
    failed before. With a commit or a model named the environment is pinned to that, else the flows would
    undo it; without, it is unpinned.
    """
    from linkspan.cli.context import Context
    from linkspan.cli.follow import follow, stopped

    context = Context(app, environment)
    context.server.version()  # a server that is down is told at once; later on it is waited for
    commit, model = _known(context, commit, model)
    once = f"deploy:{uuid4().hex}"
    common = {"hint": f"linkspan deploy by {whoami()}", "on_purpose": True}
    # Both streams first: what was never built or packaged cannot be released. They are quick if it was.
    streams: tuple[tuple[str, dict[str, object]], ...] = (
        (context.app_deployment, {"commit": commit or None, "converge": []}),
        (context.model_deployment, {"version": model or None, "converge": []}),
    )
    # Side by side: each spends most of its time on starting a process.
    started = [
        (deployment, context.start(deployment, {**common, **parameters}, once=once))
        for deployment, parameters in streams
    ]
    for deployment, run in started:
        note(f"{deployment}: {run.url}")
        follow(context, run.id)
    run = context.start(
        context.release_deployment,
        {**common, "commit": commit or None, "model": model or None},
        once=once,
    )
    note(f"{context.release_deployment}: {run.url}")
    if not wait:
        if as_json:
            print_json({"run": run.model_dump(), "message": "", "live": None, "url": None})
        return
    ended = follow(context, run.id)
    if ended.state_name == "Waiting":
        raise stopped(ended)
    live = context.runtime.live(context.service)
    url = context.runtime.url(context.service) if live else None
    if as_json:
        shown = live and live.model_dump(mode="json")
        print_json({"run": run.model_dump(), "message": ended.message, "live": shown, "url": url})
    elif live:
        pinned = ", and pinned" if live.pinned else ""
        out().print(f"[bold]{plain(live.release.title)}[/] is live at {url}{pinned}")


def _known(context: "Context", commit: str, model: str) -> tuple[str, str]:
    """Both in full. Raises CommitNotFound or ModelNotFound before anything is started."""
    if commit:
        commit = context.source.commit(commit).sha
    if model and (config := context.newest_config):
        context.models(config.model.name).get(model)
    return commit, model
