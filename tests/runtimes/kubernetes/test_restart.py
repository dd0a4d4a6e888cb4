"""An API server that goes away in the middle of a rollout. All other tests would notice: it runs alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.prober import Prober
from linkspan.runtimes.base import Runtime, Service
from tests.prober import assert_no_failure
from tests.runtimes.harness import KubernetesHarness
from tests.runtimes.releases import quiet, reached, rollout, version_of
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf


@pytest.mark.alone_on_the_cluster
def test_a_wait_goes_on_when_the_api_server_was_killed(
    *,
    cluster: RunningCluster,
    runtime: Runtime,
    harness: KubernetesHarness,
    service: Service,
    image_of: ImageOf,
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    plan = rollout(service, "v2", image_of("v2", "slow-start"), expect=1)
    away = threading.Event()

    def say(line: str) -> None:
        if "waiting until all are ready" in line:
            cluster.stop_api_server()
        if "cannot be reached" in line:
            away.set()

    with Prober(reached(runtime, service), version_of) as prober, ThreadPoolExecutor(1) as pool:
        done = pool.submit(runtime.roll_out, plan, say=say)
        try:
            noticed = away.wait(600)
        finally:
            cluster.start_api_server()
        assert noticed
        assert done.result(timeout=1200).number == 2
        assert prober.wait_for("v2", seconds=600)
    assert_no_failure(prober.report)
    assert runtime.live(service) == done.result()
    assert not runtime.drift(service, 2)
    assert len(harness.replicas(service)) == 2
