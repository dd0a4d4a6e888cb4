"""Names and folders of the cluster: one per machine, for it has a bridge and firewall rules."""

import os
from pathlib import Path

from tests import gomodule


class ClusterError(Exception):
    """The cluster should have started and did not."""

    exit_code = 1


STATE = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "linkspan" / "cluster"
CACHE = gomodule.CACHE / "cluster"
# Outside STATE, which `down` deletes: two commands at once wait for each other here.
LOCK = STATE.with_name("cluster.lock")
# Every test process that uses the cluster holds a share of this lock; who gets it whole was the last.
USERS = STATE.with_name("cluster-users.lock")

NODE = "linkspan"
BRIDGE = "linkspan0"
NETWORK = "linkspan"
CGROUP = "linkspan"
PAUSE = "linkspan.invalid/pause:1"

CERTIFICATES = STATE / "certificates"
KUBECONFIGS = STATE / "kubeconfigs"
CONFIGS = STATE / "configs"
LOGS = STATE / "logs"
PARTS = STATE / "parts"
KUBELET = STATE / "kubelet"

ADMIN = STATE / "kubeconfig"
KUBECTL = STATE / "kubectl"
CTR = STATE / "ctr"
SETTINGS = STATE / "network.json"
SYSCTLS = STATE / "sysctls.json"
READY = STATE / "ready"
STARTED_BY_TESTS = STATE / "started-by-tests"

CONTAINERD = STATE / "containerd"
CONTAINERD_SOCKET = CONTAINERD / "containerd.sock"
ETCD_SOCKET = STATE / "etcd.sock"
