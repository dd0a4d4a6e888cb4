"""The program that is all parts of the cluster, and the one of its pause containers."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.cluster.places import CACHE
from tests.gomodule import GoModule


class Program(NamedTuple):
    """Where the two executables are."""

    node: Path
    pause: Path


def program() -> Program:
    """Both, built if they are not there. Raises Unavailable if the modules or Go cannot be had."""
    folder = KUBERNETES.built()
    return Program(folder / "node", folder / "pause")


def release() -> str:
    """The release of Kubernetes that go.mod pins, for example 1.34.10."""
    return KUBERNETES.version


def _stamps(version: str) -> Mapping[str, str]:
    said = {"gitVersion": f"v{version}", "gitMajor": "1", "gitMinor": version.split(".")[1]}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{key}": value for package in packages for key, value in said.items()}


KUBERNETES = GoModule(
    sources=Path(__file__).parent / "node",
    cache=CACHE,
    project="Kubernetes",
    path="k8s.io/kubernetes",
    programs={"pause": "./pause", "node": "."},
    stamps=_stamps,
)
