"""`linkspan why` on what really runs, wherever it runs."""

from types import SimpleNamespace
from typing import cast

import docker

from linkspan.cli.context import Context
from linkspan.cli.why import Seen, find
from linkspan.release.why import read_question
from linkspan.runtimes.base import Runtime, Service
from tests.runtimes.harness import Harness
from tests.runtimes.releases import rollout
from tests.services.engine import ImageOf


def test_an_address_a_replica_and_an_image_lead_to_their_revision(
    runtime: Runtime,
    harness: Harness,
    service: Service,
    docker_client: docker.DockerClient,
    image_of: ImageOf,
) -> None:
    images = harness.images(docker_client, image_of)
    gone: dict[int, str] = {}
    for number in (1, 2):
        plan = rollout(
            service, f"v{number}", images(f"v{number}"), replicas=1, expect=number - 1, run=f"run {number}"
        )
        runtime.roll_out(plan, say=lambda _: None)
        [gone[number]] = harness.replicas(service)
    seen = [Seen(cast(Context, SimpleNamespace(service=service, runtime=runtime)), runtime.history(service))]

    def ask(text: str) -> tuple[str, int, str, str]:
        [found] = find(read_question(text), seen)
        return found.found_by, found.revision.number, found.state, found.revision.run

    assert ask(f"{runtime.url(service)}/score?x=1") == ("url", 2, "live", "run 2")
    assert ask(gone[2]) == ("replica", 2, "live", "run 2")
    assert ask(f"pod/{gone[1]}") == ("replica", 1, "replaced", "run 1")
    assert ask(plan.release.image[:20]) == ("image", 2, "live", "run 2")
    assert ask(f"registry.example.org:5000/shop@{plan.release.image}") == ("image", 2, "live", "run 2")
