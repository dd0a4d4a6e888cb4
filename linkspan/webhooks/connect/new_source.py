"""A new source: its secret, the settings that fit an app's own repository or store, what to do over there."""

import base64
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from linkspan.errors import ConfigError
from linkspan.stores.settings import folder
from linkspan.webhooks.base import WebhookSettings
from linkspan.webhooks.connect import git as connect_git
from linkspan.webhooks.connect import stores as connect_stores
from linkspan.webhooks.connect.git_hook import post_receive
from linkspan.webhooks.providers.proofs import STANDARD_PREFIX

if TYPE_CHECKING:
    from linkspan.code.source import GitSettings
    from linkspan.stores.settings import StoreSettings

COMMIT, MODEL = "commit", "model"

STORES = {
    "event-grid": connect_stores.event_grid,
    "event-bridge": connect_stores.event_bridge,
    "sns": connect_stores.sns,
    "sqs": connect_stores.sqs,
    "mlflow": connect_stores.mlflow,
}
STEPS = {
    "github": connect_git.github,
    "gitlab": connect_git.gitlab,
    "gitea": connect_git.gitea,
    "bitbucket": connect_git.bitbucket,
    "azure-repos": connect_git.azure_repos,
    "git": post_receive,
    "signed": connect_git.signed,
    **STORES,
}
"""What to do at each provider, from the webhook's URL and its settings, as text that ends in a line break."""


def new_secret(provider: str) -> str:
    """32 random bytes, in the form that the provider wants; safe in a URL, a header and a shell's quotes."""
    if provider == "signed":
        return STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def repository_of(provider: str, git: "GitSettings") -> str:
    """What the server calls the repository, from its address; empty if that cannot be told.

    `owner/name`; GitLab's may be deeper, Azure's is `project/name`.
    """
    scp = re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+):(?!//)(.+)", git.url)  # git@host:path, as git-clone(1) has it
    if git.url.startswith("file:") or (not scp and "://" not in git.url):
        return ""  # a folder
    path = scp[2] if scp else urlsplit(git.url).path
    parts = [unquote(part) for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    if provider == "azure-repos":
        # https://dev.azure.com/org/project/_git/name, git@ssh.dev.azure.com:v3/org/project/name
        parts = [part for part in parts if part not in {"_git", "v3"}]
    if provider == "bitbucket" and parts[:1] == ["scm"]:
        parts = parts[1:]  # Data Center
    return "/".join(parts if provider in {"gitlab", "signed", "git"} else parts[-2:])


def place_of(store: "StoreSettings", model: str) -> tuple[str, str]:
    """The container and the prefix where something new of a model appears in a store; empty for a folder.

    Of published models only the manifests count: a version is there once its manifest is.
    """
    from linkspan.models.versions import versions_prefix

    container = str(getattr(store, "bucket", "") or getattr(store, "container", ""))
    if container and (account := _account(store)):
        container = f"{account}/{container}"
    inner = "" if store.plain_objects else versions_prefix(model)
    prefix = folder(str(getattr(store, "prefix", ""))) + inner
    return (container, prefix.rstrip("/")) if container else ("", "")


def check_url(url: str) -> str:
    """The address at which Linkspan is reached, without a slash at its end. Raises ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is no address of a receiver", expected="https://ci.example.com")
    if parts.password or parts.username:
        raise ConfigError("the address of the receiver holds a user name or a password", expected="none")
    return url.rstrip("/")


def settings_for(provider: str, secret: str, start: list[str], **fields: str) -> WebhookSettings:
    """Settings of a webhook. Raises ConfigError for a provider that there is not, or a field it needs."""
    if provider not in STEPS:
        raise ConfigError(f"there is no provider {provider!r}", expected="one of " + ", ".join(sorted(STEPS)))
    for needs, field, example in (("sns", "topic", "--topic ARN"), ("sqs", "queue", "--queue URL")):
        if provider == needs and not fields.get(field):
            raise ConfigError(f"{provider} needs a {field}", expected=example)
    return WebhookSettings.model_validate({"provider": provider, "secret": secret, "start": start, **fields})


def _account(store: "StoreSettings") -> str:
    """The name of an Azure storage account; empty for anything else."""
    url = str(getattr(store, "account_url", ""))
    if url:
        return (urlsplit(url).hostname or "").partition(".")[0]
    text = getattr(store, "connection_string", None)
    found = re.search(r"(?:^|;)\s*AccountName=([^;]+)", text.get_secret_value()) if text else None
    return found[1].strip() if found else ""
