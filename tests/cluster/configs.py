"""The configuration files of the parts, and the arguments they are started with. JSON, which is YAML too."""

import json
from pathlib import Path

from tests.cluster.network import Network
from tests.cluster.places import (
    BRIDGE,
    CERTIFICATES,
    CGROUP,
    CONFIGS,
    CONTAINERD,
    CONTAINERD_SOCKET,
    ETCD_SOCKET,
    KUBECONFIGS,
    KUBELET,
    LOGS,
    NETWORK,
    NODE,
    PAUSE,
    STATE,
)

PLUGINS = Path("/usr/lib/cni")


def write_configs(network: Network, shim: Path) -> None:
    """All files into CONFIGS; `shim` is what containerd starts for each pod."""
    (CONFIGS / "cni").mkdir(parents=True)
    (CONFIGS / "containerd.toml").write_text(_containerd(shim))
    (CONFIGS / "cni" / "linkspan.conflist").write_text(json.dumps(_cni(network), indent=1))
    (CONFIGS / "kubelet.json").write_text(json.dumps(_kubelet(network), indent=1))
    (CONFIGS / "proxy.json").write_text(json.dumps(_proxy(network), indent=1))
    (CONFIGS / "scheduler.json").write_text(json.dumps(_scheduler(), indent=1))
    (CONFIGS / "Corefile").write_text(_corefile(network))


def commands(node: Path, containerd: Path, network: Network) -> dict[str, list[str]]:
    """How each part is started."""
    return {
        "containerd": [
            *(str(containerd), "containerd"),
            *("--config", str(CONFIGS / "containerd.toml"), "--log-level", "warn"),
        ],
        "etcd": [
            *(str(node), "etcd", "-data", str(STATE / "etcd")),
            *("-client", str(ETCD_SOCKET), "-peer", str(STATE / "peer.sock")),
        ],
        "apiserver": [str(node), "apiserver", *_flags(_api_server(network))],
        "controller-manager": [str(node), "controller-manager", *_flags(_controller_manager())],
        "scheduler": [
            str(node),
            "scheduler",
            *_flags({"config": CONFIGS / "scheduler.json", "secure-port": 0}),
        ],
        # A node keeps processor time free for its kubelet (kube-reserved). Where none is, probes come late,
        # and bunched, and three good answers in a row are no longer two seconds.
        "kubelet": [
            *("nice", "-n", "-10"),
            str(node),
            "kubelet",
            *_flags(
                {
                    "config": CONFIGS / "kubelet.json",
                    "kubeconfig": KUBECONFIGS / "kubelet",
                    "root-dir": KUBELET,
                    "cert-dir": KUBELET / "pki",
                    "hostname-override": NODE,
                    "node-ip": network.node_ip,
                }
            ),
        ],
        "proxy": [str(node), "proxy", *_flags({"config": CONFIGS / "proxy.json"})],
        "coredns": [str(node), "coredns", "-conf", str(CONFIGS / "Corefile")],
    }


def _containerd(shim: Path) -> str:
    """In version 4, to which containerd 2.3 and later migrate all others: no address follows from another."""
    return f"""\
version = 4
root = "{CONTAINERD}/root"
state = "{CONTAINERD}/state"
# They make folders in /opt and a socket in /run, and send traces to where the environment says.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[plugins."io.containerd.server.v1.grpc"]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.server.v1.ttrpc"]
address = "{CONTAINERD_SOCKET}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
[plugins."io.containerd.cri.v1.images"]
# As EKS and GKE have it: what is unpacked is not kept packed too.
discard_unpacked_layers = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.images".registry]
# None is there, and the machine's own are for its own containerd.
config_path = "{CONFIGS}/registries"
[plugins."io.containerd.cri.v1.runtime"]
# Needed where CAP_SYS_RESOURCE is missing: without it no container may have a lower score than containerd.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{PLUGINS}"]
conf_dir = "{CONFIGS}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
# Else the one that is in PATH is taken first, which is of another containerd.
runtime_path = "{shim}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{CONTAINERD}/runc"
"""


def _flags(values: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _api_server(network: Network) -> dict[str, object]:
    return {
        "advertise-address": network.node_ip,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "bind-address": network.node_ip,
        "client-ca-file": CERTIFICATES / "ca.crt",
        # On top of the default ones, among them PodSecurity, ResourceQuota, LimitRanger and ServiceAccount.
        "enable-admission-plugins": "NodeRestriction",
        "etcd-servers": f"unix://{ETCD_SOCKET}",
        "kubelet-certificate-authority": CERTIFICATES / "ca.crt",
        "kubelet-client-certificate": CERTIFICATES / "apiserver-to-kubelet.crt",
        "kubelet-client-key": CERTIFICATES / "apiserver-to-kubelet.key",
        # Else it looks up the node's name, which nothing on this machine knows.
        "kubelet-preferred-address-types": "InternalIP",
        "profiling": "false",
        "secure-port": network.api_port,
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": CERTIFICATES / "service-accounts.key",
        "service-account-signing-key-file": CERTIFICATES / "service-accounts.key",
        "service-cluster-ip-range": network.services,
        "tls-cert-file": CERTIFICATES / "apiserver.crt",
        "tls-private-key-file": CERTIFICATES / "apiserver.key",
    }


def _controller_manager() -> dict[str, object]:
    return {
        "cluster-signing-cert-file": CERTIFICATES / "ca.crt",
        "cluster-signing-key-file": CERTIFICATES / "ca.key",
        "flex-volume-plugin-dir": STATE / "volume-plugins",
        "kubeconfig": KUBECONFIGS / "controller-manager",
        # There is one of each; and who has no leader's lease cannot lose it while the API server is away.
        "leader-elect": "false",
        "node-monitor-period": "2s",
        "root-ca-file": CERTIFICATES / "ca.crt",
        "secure-port": 0,
        "service-account-private-key-file": CERTIFICATES / "service-accounts.key",
        "use-service-account-credentials": "true",
    }


def _scheduler() -> dict[str, object]:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(KUBECONFIGS / "scheduler")},
        "leaderElection": {"leaderElect": False},
    }


def _kubelet(network: Network) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node_ip,
        "port": network.kubelet_port,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(CERTIFICATES / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(CERTIFICATES / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(CERTIFICATES / "kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "clusterDNS": [network.node_ip],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # The machine's disk is not the cluster's to judge: no image is deleted and no pod evicted for it.
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "eventRecordQPS": 0,
        "registryPullQPS": 0,
        # Version 1 of control groups is what many machines of developers still have.
        "failCgroupV1": False,
        "failSwapOn": False,
        "nodeStatusUpdateFrequency": "4s",
        "oomScoreAdj": 0,
        "podLogsDir": str(LOGS / "pods"),
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "volumePluginDir": str(STATE / "volume-plugins"),
    }


def _proxy(network: Network) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": network.node_ip,
        "clientConnection": {"kubeconfig": str(KUBECONFIGS / "proxy")},
        "clusterCIDR": network.pods,
        # Zero leaves the machine's own limits alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "healthzBindAddress": "",
        "metricsBindAddress": "",
        "hostnameOverride": NODE,
        "iptables": {"localhostNodePorts": True, "minSyncPeriod": "100ms", "syncPeriod": "30s"},
        "mode": "iptables",
        "nodePortAddresses": [f"{network.node_ip}/32", "127.0.0.0/8"],
        "oomScoreAdj": 0,
    }


def _cni(network: Network) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        # A pod may reach itself through its Service.
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(STATE / "addresses"),
            "ranges": [[{"subnet": network.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [bridge, ports]}


def _corefile(network: Network) -> str:
    resolvers = Path("/etc/resolv.conf")
    others = resolvers.exists() and "nameserver" in resolvers.read_text()
    return f"""\
.:53 {{
    bind {network.node_ip}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {KUBECONFIGS / "coredns"} linkspan
        fallthrough in-addr.arpa
    }}
    {f"forward . {resolvers}" if others else ""}
    cache 5
    loadbalance
}}
"""
