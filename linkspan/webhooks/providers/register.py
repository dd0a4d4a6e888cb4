"""Who can call us: the names of providers, and their rules."""

from collections.abc import Collection

from linkspan.errors import ConfigError
from linkspan.webhooks.base import Provider
from linkspan.webhooks.providers import (
    azure_repos,
    bitbucket,
    event_bridge,
    event_grid,
    gitea,
    github,
    gitlab,
    mlflow,
    plain_git,
    signed,
)
from linkspan.webhooks.providers.sns import Sns

# A module with `verify` and `read` is a provider; one that needs something to call is an object.
PROVIDERS: dict[str, Provider] = {
    "github": github,
    "gitlab": gitlab,
    "gitea": gitea,
    "bitbucket": bitbucket,
    "azure-repos": azure_repos,
    "git": plain_git,
    "signed": signed,
    "event-grid": event_grid,
    "event-bridge": event_bridge,
    "sns": Sns(),
    "mlflow": mlflow,
}

QUEUES = frozenset({"sqs"})
"""Providers that cannot call: their queue is read (linkspan/webhooks/queues/)."""
ALL = frozenset({*PROVIDERS, *QUEUES})


def provider(name: str) -> Provider:
    """The rules of the provider of that name. Raises ConfigError, naming those that there are."""
    return PROVIDERS[known(name, PROVIDERS)]


def known(name: str, names: Collection[str]) -> str:
    """The name, if it is one of these. Raises ConfigError, naming them."""
    if name not in names:
        raise ConfigError(
            f"there is no webhook provider {name!r}", expected="one of " + ", ".join(sorted(names))
        )
    return name
