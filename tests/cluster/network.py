"""The cluster's addresses, its bridge and its firewall rules, and how all of them go away again."""

import ipaddress
import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.cluster.places import BRIDGE, NETWORK, SETTINGS, SYSCTLS
from tests.gomodule import Unavailable

MARK = "linkspan-cluster"

# What kubelet and kube-proxy change on their host, besides what we ask for; `down` puts the old values back.
CHANGED = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
]


class Network(NamedTuple):
    """Pods get addresses of the bridge's subnet; the node's own address is the bridge's."""

    pods: str
    services: str
    api_port: int
    kubelet_port: int

    @property
    def node_ip(self) -> str:
        return str(ipaddress.ip_network(self.pods)[1])

    @property
    def kubernetes_ip(self) -> str:
        """The first address of the services is that of the API server."""
        return str(ipaddress.ip_network(self.services)[1])

    @property
    def api_server(self) -> str:
        return f"https://{self.node_ip}:{self.api_port}"


def load() -> Network:
    """The network of the cluster that is up."""
    return Network(**json.loads(SETTINGS.read_text()))


def set_up() -> Network:
    """Choose free subnets, make the bridge, let its packets through. Raises Unavailable."""
    if "KUBE-SERVICES" in _run("iptables-save", "-t", "nat"):
        raise Unavailable("another Kubernetes keeps its firewall rules on this machine (chain KUBE-SERVICES)")
    pods, services = _free_subnets()
    node_ip = str(ipaddress.ip_network(pods)[1])
    _save_sysctls()
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{node_ip}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    for rule in _rules(pods):
        _run("iptables", *rule, "-m", "comment", "--comment", MARK)
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        _write_sysctl(name, "1")
    network = Network(pods, services, _free_port(node_ip, 6443), _free_port(node_ip, 10250))
    SETTINGS.write_text(json.dumps(network._asdict()))
    return network


def tear_down() -> None:
    """Undo `set_up` and what kube-proxy and the CNI plugins added; nothing happens where nothing is left."""
    rules = _run("iptables-save") if shutil.which("iptables-save") else ""
    if MARK in rules or SETTINGS.exists():
        for family in ("iptables", "ip6tables"):
            text = removal(_run(f"{family}-save", check=False))
            if text:
                _run(f"{family}-restore", "--noflush", given=text)
    if BRIDGE in _run("ip", "-o", "link"):
        _run("ip", "link", "delete", BRIDGE)
    if SYSCTLS.exists():
        for name, value in json.loads(SYSCTLS.read_text()).items():
            _write_sysctl(name, value)


def removal(saved: str) -> str:
    """What takes our rules and chains out of the output of iptables-save; all others stay as they are."""
    blocks: list[str] = []
    for table in re.split(r"^(?=\*)", saved, flags=re.MULTILINE):
        lines = [line for line in table.splitlines() if line[:1] in {"*", ":", "-"}]
        chains = [line[1:].split()[0] for line in lines if line.startswith(":")]
        ours = {chain for chain in chains if chain.startswith("KUBE-")}
        ours |= _portmap_chains(chains, lines)
        edits = []
        for line in lines:
            words = line.split()
            if line.startswith("-A") and words[1] not in ours and (ours & set(words) or MARK in words):
                edits.append("-D" + line[2:])
        edits += [f"-F {chain}" for chain in sorted(ours)] + [f"-X {chain}" for chain in sorted(ours)]
        if edits:
            blocks.append("\n".join([lines[0], *edits, "COMMIT", ""]))
    return "".join(blocks)


def _portmap_chains(chains: list[str], lines: list[str]) -> set[str]:
    """The rule that jumps to a pod's chain names its network; CNI-HOSTPORT-* is for all networks."""
    named = f'\\"{NETWORK}\\"'
    ours = {line.split()[-1] for line in lines if line.startswith("-A CNI-HOSTPORT-DNAT") and named in line}
    if not {chain for chain in chains if chain.startswith("CNI-DN-")} - ours:
        ours |= {chain for chain in chains if chain.startswith("CNI-HOSTPORT-")}
    return ours


def _rules(pods: str) -> list[list[str]]:
    """Docker drops what it does not know in FORWARD; so pods are let through, before its rules."""
    return [
        ["-I", "FORWARD", "-i", BRIDGE, "-j", "ACCEPT"],
        ["-I", "FORWARD", "-o", BRIDGE, "-j", "ACCEPT"],
        ["-I", "INPUT", "-i", BRIDGE, "-j", "ACCEPT"],
        ["-t", "nat", "-A", "POSTROUTING", "-s", pods, "!", "-o", BRIDGE, "-j", "MASQUERADE"],
    ]


def _free_subnets() -> tuple[str, str]:
    taken = []
    for route in json.loads(_run("ip", "-j", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default":
            taken.append(ipaddress.ip_network(route["dst"], strict=False))
    for third in range(0, 256, 8):
        pods = ipaddress.ip_network(f"10.213.{third}.0/24")
        services = ipaddress.ip_network(f"10.214.{third}.0/24")
        if not any(pods.overlaps(other) or services.overlaps(other) for other in taken):
            return str(pods), str(services)
    raise Unavailable("no free subnet in 10.213.0.0/16 and 10.214.0.0/16")


def _free_port(address: str, usual: int) -> int:
    """The usual one or one after it: below those that the kernel gives to clients, which a part that is
    started again might find taken by one of them.
    """
    for port in range(usual, usual + 100):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the parts do
            try:
                sock.bind((address, port))
            except OSError:
                continue
            return port
    raise Unavailable(f"none of the ports {usual} to {usual + 99} is free")


def _save_sysctls() -> None:
    values = {}
    for name in CHANGED:
        path = Path("/proc/sys", name)
        if path.exists():
            values[name] = path.read_text().strip()
    SYSCTLS.write_text(json.dumps(values))


def _write_sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)


def _run(*command: str, given: str = "", check: bool = True) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
