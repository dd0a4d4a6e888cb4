"""The programs of the cluster: built from Go modules once, and kept in the user's cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.cluster.places import CACHE
from tests.gomodule import GoModule


class Programs(NamedTuple):
    """Where the executables are."""

    node: Path
    """All parts of Kubernetes, etcd, CoreDNS and kubectl."""
    pause: Path
    containerd: Path
    """And ctr."""
    shim: Path


def programs() -> Programs:
    """All of them, built if they are not there. Raises Unavailable if the modules or Go cannot be had."""
    containerd, kubernetes = CONTAINERD.built(), KUBERNETES.built()
    return Programs(
        node=kubernetes / "node",
        pause=kubernetes / "pause",
        containerd=containerd / "containerd",
        shim=containerd / "containerd-shim-runc-v2",
    )


def _stamps(version: str) -> Mapping[str, str]:
    said = {"gitVersion": f"v{version}", "gitMajor": "1", "gitMinor": version.split(".")[1]}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{key}": value for package in packages for key, value in said.items()}


_HERE = Path(__file__).parent
# To another release: node/generate.py says how; for containerd `go get …/v2@v…` and `go mod tidy`.
KUBERNETES = GoModule(
    sources=_HERE / "node",
    cache=CACHE,
    project="Kubernetes",
    path="k8s.io/kubernetes",
    programs={"pause": ("./pause",), "node": (".",)},
    stamps=_stamps,
)
CONTAINERD = GoModule(
    sources=_HERE / "containerd",
    cache=CACHE,
    project="containerd",
    path="github.com/containerd/containerd/v2",
    # containerd builds its shim without gRPC too: one runs beside each pod.
    programs={"containerd-shim-runc-v2": ("-tags", "no_grpc", "./shim"), "containerd": (".",)},
    stamps=lambda version: {"github.com/containerd/containerd/v2/version.Version": version},
)
