"""Whether all nodes of a cluster can mount images as volumes, by the versions that they say they have.

KEP-4639: on by default since Kubernetes 1.35, and in the gate `ImageVolume` since 1.33, with `subPath`. Needs
CRI-O 1.33 or containerd 2.2: 2.1 mounts images, but ignores `subPath` (containerd #11580).
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from linkspan.errors import RolloutFailed
from linkspan.nouns import Release
from linkspan.runtimes.base import KubeObject, Mounting
from linkspan.runtimes.kubernetes.marks import MODEL_VOLUME

_OFFERED: Final = (1, 35)
_POSSIBLE: Final = (1, 33)
_ENGINES: Final = {"containerd": (2, 2), "cri-o": (1, 33)}


class Node(NamedTuple):
    """A node as it calls itself: `kubelet` is like v1.36.3, `engine` like containerd://2.4.2."""

    name: str
    kubelet: str
    engine: str


def offer(nodes: Iterable[Node]) -> Mounting:
    """`all` where every node offers it by itself, `some` where one does or may have been told to."""
    known = list(nodes)
    lacks = [lack for node in known if (lack := _lack(node, _OFFERED))]
    if not known:
        return Mounting("unknown", "the cluster has no node yet")
    if not lacks:
        return Mounting("all")
    some = any(not _lack(node, _POSSIBLE) for node in known)
    return Mounting("some" if some else "none", lacks[0])


def check_mounts(volumes: Iterable[KubeObject], release: Release) -> None:
    """Raises RolloutFailed if the API server left the model out of a pod: with its gate off it is silent.

    kubernetes pkg/api/pod/util.go, dropImageVolumes. Nothing was tried, so no verdict on the release.
    """
    if all(each.get("name") != MODEL_VOLUME or "image" not in each for each in volumes):
        raise RolloutFailed(
            f"{release.title} mounts its model's image, and the cluster's API server drops such volumes",
            fix="Switch on its feature gate ImageVolume, or set model.mount in linkspan.toml to `layers`",
        )


def _lack(node: Node, least: tuple[int, int]) -> str:
    """What keeps the node from mounting images; empty if nothing does."""
    if _version(node.kubelet) < least:
        return f"node {node.name} has Kubernetes {node.kubelet}, older than {least[0]}.{least[1]}"
    engine, _, version = node.engine.partition("://")
    if engine not in _ENGINES or _version(version) < _ENGINES[engine]:
        wanted = " or ".join(f"{name} {major}.{minor}" for name, (major, minor) in _ENGINES.items())
        return f"node {node.name} has {node.engine or 'an unknown engine'}, not {wanted}"
    return ""


def _version(text: str) -> tuple[int, int]:
    """Major and minor; (0, 0) for what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
