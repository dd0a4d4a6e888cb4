"""Starting the cluster, line by line."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster import parts
from tests.cluster.api import Api
from tests.cluster.certificates import write_certificates
from tests.cluster.configs import commands, write_configs
from tests.cluster.down import down
from tests.cluster.network import load, set_up
from tests.cluster.pause import write_pause_image
from tests.cluster.places import (
    ADMIN,
    CGROUP,
    CONTAINERD,
    CONTAINERD_SOCKET,
    CTR,
    KUBECTL,
    NODE,
    READY,
    STATE,
    ClusterError,
)
from tests.cluster.program import KUBERNETES, Programs, programs
from tests.gomodule import Unavailable
from tests.say import Clock, say

# CoreDNS reads these of all namespaces; every other part's rights are made by the API server itself.
DNS_READS = [
    {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]

KUBECTL_SCRIPT = """\
#!/bin/sh
# kubectl for the cluster of the tests, which no HTTP proxy knows the way to.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
export KUBECONFIG="${{KUBECONFIG:-{admin}}}" KUBECACHEDIR="${{KUBECACHEDIR:-{state}/kubectl-cache}}"
exec {node} kubectl "$@"
"""

CTR_SCRIPT = """\
#!/bin/sh
# ctr for the containerd of the cluster of the tests: what the kubelet has it keep.
exec {containerd} ctr --address {socket} --namespace k8s.io "$@"
"""


def up() -> None:
    """Start it, unless it is up already. Raises Unavailable, BuildError or ClusterError."""
    check_machine()
    if is_up():
        say(f"Kubernetes {KUBERNETES.version} is up already")
        return
    built = programs()
    down()  # what a killed `up` or a reboot left
    clock = Clock()
    STATE.mkdir(mode=0o700, parents=True)
    network = set_up()
    write_certificates(network)
    write_configs(network, built.shim)
    _write_commands(built)
    _make_cgroups()
    clock.say(f"bridge for pods {network.pods}, services {network.services}, certificates")

    starts = commands(built.node, built.containerd, network)
    api = Api(network)
    for name in ("etcd", "apiserver", "containerd"):
        parts.start(name, starts[name])
    CONTAINERD.mkdir(exist_ok=True)
    _wait("containerd", CONTAINERD_SOCKET.exists)
    _import_pause(built)
    clock.say("containerd, with an image for the pause container")
    _wait("the API server", api.ready)
    clock.say(f"etcd and the API server at {network.api_server}")

    _let_dns_read(api)
    for name in ("kubelet", "controller-manager", "scheduler", "proxy", "coredns"):
        parts.start(name, starts[name])
    _wait("the node", lambda: _node_ready(api))
    clock.say(f"node {NODE}")
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait("the controller manager", lambda: api.get(account) is not None)
    READY.touch()
    clock.say("scheduler, controller manager, kube-proxy, CoreDNS")
    say(f"Kubernetes {KUBERNETES.version} is up. To use it:")
    say(f"  export KUBECONFIG={ADMIN}\n  {KUBECTL} get nodes")


def check_machine() -> None:
    """Raises Unavailable where there can be none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable("a cluster needs Linux and root: it makes a bridge, mounts and control groups")


def is_up() -> bool:
    """Whether all of it was started, and all of its processes live."""
    return READY.exists() and all(parts.running(name) for name in commands(Path(), Path(), load()))


def _wait(what: str, ready: Callable[[], bool], *, seconds: float = 600) -> None:
    """Wait for a condition, as long as all parts live."""
    end = time.monotonic() + seconds
    while not ready():
        parts.check_running()
        if time.monotonic() > end:
            logs = "\n".join(f"{name}:\n{parts.tail(name, 4)}" for name in parts.names())
            raise ClusterError(f"{what} was not ready after {seconds:g} s. The ends of the logs:\n{logs}")
        time.sleep(0.1)


def _make_cgroups() -> None:
    """The kubelet makes pods' groups below one of ours, by which `down` finds their processes."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():  # version 2: one tree, in which children have to be given all
        for controller in (root / "cgroup.controllers").read_text().split():
            (root / "cgroup.subtree_control").write_text(f"+{controller}")
        (root / CGROUP).mkdir(exist_ok=True)
        return
    for hierarchy in root.iterdir():
        if hierarchy.is_dir() and not hierarchy.is_symlink():
            (hierarchy / CGROUP).mkdir(exist_ok=True)


def _import_pause(built: Programs) -> None:
    archive = STATE / "pause.tar"
    write_pause_image(built.pause, archive)
    command = [str(CTR), "images", "import", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archive.unlink()
    if done.returncode:
        raise ClusterError(f"containerd does not take the image of the pause container: {done.stderr}")


def _let_dns_read(api: Api) -> None:
    access = "rbac.authorization.k8s.io"
    role = {"kind": "ClusterRole", "name": "system:coredns", "apiGroup": access}
    user = {"kind": "User", "name": "system:coredns", "apiGroup": access}
    named = {"apiVersion": f"{access}/v1", "metadata": {"name": "system:coredns"}}
    roles = f"/apis/{access}/v1"
    api.create(f"{roles}/clusterroles", {**named, "kind": "ClusterRole", "rules": DNS_READS})
    binding = {**named, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [user]}
    api.create(f"{roles}/clusterrolebindings", binding)


def _node_ready(api: Api) -> bool:
    node = api.get(f"/api/v1/nodes/{NODE}")
    conditions = node["status"].get("conditions", []) if node else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _write_commands(built: Programs) -> None:
    """What people and tests type."""
    for path, text in {
        KUBECTL: KUBECTL_SCRIPT.format(admin=ADMIN, state=STATE, node=built.node),
        CTR: CTR_SCRIPT.format(containerd=built.containerd, socket=CONTAINERD_SOCKET),
    }.items():
        path.write_text(text)
        path.chmod(0o755)
