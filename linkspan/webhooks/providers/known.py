"""Who can call us: the names of providers, and their rules."""

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


def provider(name: str) -> Provider:
    """The provider of that name. Raises ConfigError, naming those that there are."""
    if name not in PROVIDERS:
        raise ConfigError(
            f"there is no webhook provider {name!r}", expected="one of " + ", ".join(sorted(PROVIDERS))
        )
    return PROVIDERS[name]
