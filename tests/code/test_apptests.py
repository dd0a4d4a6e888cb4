"""An app's own tests, run by the real engine inside its image."""

import threading
import time
from datetime import timedelta

import docker
import pytest

from linkspan.code import apptests
from linkspan.code.builder import Builder, BuilderSettings
from linkspan.config import TestSection as Tests
from linkspan.errors import (
    AppTestsFailed,
    BuildFailed,
)
from tests.code.apps import no_containers_of, quiet
from tests.skew import DAY, skewed


def test_tests_that_pass(client: docker.DockerClient, builder: Builder, image: str) -> None:
    said: list[str] = []
    builder.test(image, Tests(command=("sh", "-c", "echo one; echo two >&2; touch /tmp/x")), say=said.append)
    assert {"one", "two", "the app's tests passed"} <= set(said)
    assert no_containers_of(client, image)


def test_tests_that_fail(client: docker.DockerClient, builder: Builder, image: str) -> None:
    with pytest.raises(
        AppTestsFailed, match=r"(?s)the app's tests failed.*assert 1 == 2.*exit code 0, found 5"
    ):
        builder.test(image, Tests(command=("sh", "-c", "echo assert 1 == 2; exit 5")), say=quiet)
    assert no_containers_of(client, image)


def test_tests_that_print_without_end(
    client: docker.DockerClient, builder: Builder, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apptests, "_MOST_OUTPUT", 1 << 20)
    with pytest.raises(AppTestsFailed, match=r"(?s)print without end.*forever.*at most 1 MB"):
        builder.test(image, Tests(command=("yes", "forever"), timeout_seconds=200), say=quiet)
    assert no_containers_of(client, image)


def test_tests_that_hang(
    client: docker.DockerClient, builder: Builder, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    class Timer(threading.Timer):
        """Waits for the tests' first line, and then a thousandth of its time."""

        def run(self) -> None:
            begun.wait(600)
            self.interval /= 1000
            super().run()

    monkeypatch.setattr(threading, "Timer", Timer)
    test = Tests(command=("sh", "-c", "trap '' TERM; echo begun; sleep 3600"), timeout_seconds=3000)
    start = time.monotonic()
    with pytest.raises(AppTestsFailed, match=r"(?s)did not end within 3000 s.*begun"):
        builder.test(image, test, say=lambda line: begun.set() if line == "begun" else None)
    assert time.monotonic() - start < 600
    assert no_containers_of(client, image)


def test_tests_that_are_not_there(client: docker.DockerClient, builder: Builder, image: str) -> None:
    with pytest.raises(AppTestsFailed, match="must be in the image"):
        builder.test(image, Tests(command=("pytset",)), say=quiet)
    assert no_containers_of(client, image)
    said: list[str] = []
    builder.test(image, Tests(), say=said.append)
    assert said == ["linkspan.toml has no test.command: nothing was tested"]
    with pytest.raises(BuildFailed, match="not in the engine any more"):
        builder.test(f"sha256:{'0' * 64}", Tests(command=("true",)), say=quiet)


def test_tests_that_take_too_much(client: docker.DockerClient, image: str) -> None:
    greedy = Tests(command=("python", "-c", "bytearray(300_000_000)"))
    with pytest.raises(AppTestsFailed, match="more memory than it may"):
        BuilderSettings(memory="64m").open().test(image, greedy, say=quiet)
    assert no_containers_of(client, image)


def test_tests_can_reach_nothing_and_change_nothing(builder: Builder, image: str) -> None:
    program = """
import os, socket
for path in ("/app/x", "/x", "/var/tmp/x"):
    try:
        open(path, "w")
    except OSError as error:
        print("refused", path)
open("/tmp/x", "w"); open(os.path.expanduser("~/y"), "w")
print("uid", os.getuid())
print("interfaces", [name for _, name in socket.if_nameindex() if name != "lo"])
print([line for line in open("/proc/self/status") if line.startswith("CapBnd")])
"""
    said: list[str] = []
    builder.test(image, Tests(command=("python", "-c", program)), say=said.append)
    text = "\n".join(said)
    assert len([line for line in said if line.startswith("refused")]) == 3
    assert "uid 1000" in text
    assert "CapBnd:\\t0000000000000000" in text
    assert "eth" not in text


@pytest.mark.parametrize("skew", [-DAY, DAY], ids=["behind", "ahead"])
def test_containers_of_killed_workers_are_swept_whatever_the_clock_says(
    client: docker.DockerClient, builder: Builder, image: str, skew: timedelta
) -> None:
    def left(until: float) -> str:
        labels = {"dev.linkspan.role": "test", "dev.linkspan.until": str(int(until))}
        # Not client.containers: it would look at what the sweep of a test next door may have removed.
        return str(client.api.create_container(image, labels=labels)["Id"])

    old, running = left(time.time() - 5), left(time.time() + 600)
    try:
        with skewed(skew):
            builder.test(image, Tests(command=("true",)), say=quiet)
        there = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
        assert old not in there
        assert running in there
    finally:
        client.api.remove_container(running, force=True)
