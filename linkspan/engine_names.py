"""Names of things on the Prefect server, as people write them and as its API wants them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from linkspan.engine_http import Json
from linkspan.errors import ConfigError, EngineError


def check_names(deployment: str, parameters: Mapping[str, Any], schema: dict[str, Json]) -> None:
    """Raises EngineError for a parameter that the flow does not take.

    The server checks types, but takes a name that the flow has not; the run would fail later.
    """
    taken = schema.get("properties")
    if taken is not None and (unknown := sorted(set(parameters) - set(taken))):
        raise EngineError(
            f"{deployment} takes no parameter {', '.join(unknown)}", expected=", ".join(sorted(taken))
        )


def deployment_path(deployment: str) -> str:
    """Where the API has `flow-name/deployment-name`. Raises ConfigError for any other form."""
    flow, slash, name = deployment.partition("/")
    if not (flow and slash and name):
        raise ConfigError(f"{deployment!r} names no deployment", expected="flow-name/deployment-name")
    return f"deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}"


def split_ref(ref: str) -> tuple[str, str]:
    """The parts of `block-type/name`, fit for a URL. Raises ConfigError for any other form."""
    kind, slash, name = ref.partition("/")
    if not (kind and slash and name) or "/" in name:
        raise ConfigError(
            f"{ref!r} names no block", expected="block-type/name, such as s3-model-store/digits"
        )
    return quote(kind, safe=""), quote(name, safe="")
