"""A world's flows as deployments, so that a worker runs them."""

from typing import Any
from uuid import uuid4

from tests.e2e.world import World


def prefect_file(world: World, entrypoint: str = "flows.{0}.{0}") -> dict[str, Any]:
    """A prefect.yaml of the world's three deployments; `entrypoint` gets the name of each flow's function."""
    common = ("app", "repository", "registry")
    converge = {"converge": [f"build-and-deploy/{world.service}"]}
    wanted: list[tuple[str, str, str, dict[str, Any]]] = [
        ("app_stream", "app-stream", world.app, {**world.parameters(*common, "builder"), **converge}),
        ("model_stream", "model-stream", world.app, {**world.parameters(*common, "store"), **converge}),
        ("build_and_deploy", "build-and-deploy", str(world.service), world.release_parameters()),
    ]
    return {
        "pull": [],
        "deployments": [
            {
                "name": name,
                "entrypoint": entrypoint.format(function),
                "flow_name": flow,
                "tags": ["linkspan"],
                "parameters": parameters,
                "work_pool": {"name": "linkspan", "work_queue_name": f"{flow}-{world.app}"},
            }
            for function, flow, name, parameters in wanted
        ],
    }


def hint(world: World, flow: str, text: str = "") -> str:
    """Start a run of one of them, as the receiver and the command line do; its id."""
    name = str(world.service) if flow == "build-and-deploy" else world.app
    with world.server.api() as engine:
        return engine.start(f"{flow}/{name}", {"hint": text}, idempotency_key=uuid4().hex).id
