"""`linkspan connect`: have a git server or a store call Linkspan, with what to paste over there."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import note, print_json

if TYPE_CHECKING:
    from linkspan.cli.context import Context
    from linkspan.webhooks.base import WebhookSettings

# A hook of one repository, and messages that need not name any.
_NAMELESS = frozenset({"git", "signed"})
EXAMPLES = """\b
Examples:
  linkspan connect github --url https://ci.example.com
  linkspan connect event-grid --url https://ci.example.com
  linkspan connect sqs --queue https://sqs.REGION.amazonaws.com/ACCOUNT/models
  linkspan connect git --url https://ci.example.com > post-receive
"""


def connect(
    provider: Annotated[
        str,
        typer.Argument(
            help="github, gitlab, gitea, bitbucket, azure-repos, git, event-grid, event-bridge, sns, sqs, "
            "mlflow, or signed for anything else."
        ),
    ],
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    url: Annotated[
        str,
        typer.Option(
            envvar="LINKSPAN_URL", metavar="URL", help="Where the receiver is reached from there, https://…"
        ),
    ] = "",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the webhook. Default: the app and the provider.")
    ] = "",
    of: Annotated[
        str, typer.Option("--of", metavar="commit|model", help="What `signed` messages are about.")
    ] = "",
    repository: Annotated[
        str, typer.Option(metavar="NAME", help="owner/name. Default: that of the app's repository.")
    ] = "",
    branch: Annotated[
        str, typer.Option(metavar="NAME", help="Default: the branch of the app's repository.")
    ] = "",
    container: Annotated[
        str, typer.Option(metavar="NAME", help="Bucket, account/container, or MLflow's model.")
    ] = "",
    prefix: Annotated[
        str, typer.Option(metavar="PATH", help="Only what is below it counts. Default: the model's.")
    ] = "",
    topic: Annotated[str, typer.Option(metavar="ARN", help="Of SNS.")] = "",
    queue: Annotated[str, typer.Option(metavar="URL", help="Of SQS.")] = "",
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Replace the secret of a webhook that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a webhook for a provider and print what to do over there.

    Its settings and its secret are kept in a block of the type `webhook-source` in Prefect; the receiver
    (`linkspan serve`) believes whoever knows the secret. What is printed holds it: do not keep the output.
    """
    from linkspan.cli.context import Context
    from linkspan.errors import ConfigError
    from linkspan.webhooks.base import BLOCK
    from linkspan.webhooks.connect import new_source as it

    if of not in {"", it.COMMIT, it.MODEL}:
        raise ConfigError(f"--of {of!r} is nothing that messages are about", expected="commit or model")
    context = Context(app, environment)
    # An app may have both kinds of signed messages.
    kind = f"-{of}" if provider == "signed" and of == it.MODEL else ""
    name = name or f"{context.app}-{provider}{kind}"
    # Nobody calls for a queue: it is read.
    address = "" if provider == "sqs" else f"{it.check_url(url or _own_url(context))}/hooks/{name}"
    about_models = provider in it.STORES or of == it.MODEL
    fields = {
        "repository": repository,
        "branch": branch,
        "container": container,
        "prefix": prefix,
        "topic": topic,
        "queue": queue,
    }
    block = f"{BLOCK}/{name}"
    known = context.server.blocks(BLOCK).get(name, {})
    secret = "" if new_secret else str(known.get("secret", ""))
    settings = it.settings_for(
        provider,
        secret or it.new_secret(provider),
        [context.model_deployment if about_models else context.app_deployment],
        **{**_found(context, provider, about_models=about_models), **{k: v for k, v in fields.items() if v}},
    )
    context.server.save_block(block, _plain(settings))
    if as_json:
        print_json({"name": name, "url": address, **_plain(settings)})
        return
    counts = _counts(settings, about_models=about_models)
    note(f"Saved block {block}: it starts {', '.join(settings.start)}. {counts}")
    if secret and provider != "sqs":
        note("It keeps the secret that it had; --new-secret makes another.")
    note("")
    print(it.STEPS[provider](address, settings), end="", flush=True)  # noqa: T201 to be copied as it is
    note("")
    if provider == "git":
        note("Put it on the git server: install -m 700 post-receive REPOSITORY.git/hooks/post-receive")
    note("`linkspan events --follow` shows what arrives; who is refused, and why, is in the receiver's log.")


def _own_url(context: "Context") -> str:
    """Where the receiver of `linkspan up` is: right for a server on this machine, and for no other."""
    from linkspan.errors import ConfigError
    from linkspan.local.home import Home

    state = Home.default().read_state()
    if state is None or not state.hooks_url or state.api_url != context.server.api_url:
        raise ConfigError(
            "it is not known where the receiver is reached",
            expected="--url or LINKSPAN_URL, such as https://ci.example.com",
            fix="Put a proxy with TLS in front of `linkspan serve`, and name its address",
        )
    note(f"No --url: only what runs on this machine reaches {state.hooks_url}.")
    return state.hooks_url


def _found(context: "Context", provider: str, *, about_models: bool) -> dict[str, str]:
    """What the app's own blocks say about the source."""
    from linkspan.release.newest import usable_config
    from linkspan.webhooks.connect import new_source as it

    if not about_models:
        git = context.git_settings
        return {"repository": it.repository_of(provider, git), "branch": git.branch}
    config = usable_config(context.source, say=lambda _: None)
    model = config.model.name if config else ""
    if provider == "mlflow":
        return {"container": model}
    container, prefix = it.place_of(context.store_settings, model) if model else ("", "")
    return {"container": container, "prefix": prefix}


def _plain(settings: "WebhookSettings") -> dict[str, Any]:
    return {**settings.model_dump(), "secret": settings.secret.get_secret_value()}


def _counts(settings: "WebhookSettings", *, about_models: bool) -> str:
    """What of the provider's news counts, in a sentence, and how to narrow it."""
    if settings.container or settings.prefix:
        inside = f" below {settings.prefix}" if settings.prefix else ""
        return f"Only {settings.container or 'what is'}{inside} counts."
    if about_models and settings.provider == "signed":
        return "Every message counts; --container and --prefix narrow that."
    if about_models:
        return "Every object counts: the app's store has no bucket; --container and --prefix name one."
    branch = f"Only branch {settings.branch}" if settings.branch else "Every branch"
    if settings.repository:
        return f"{branch} of {settings.repository} counts."
    if settings.provider in _NAMELESS:
        return f"{branch} counts."
    return f"{branch} counts, of whichever repository calls: --repository names the one."
