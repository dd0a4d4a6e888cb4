"""Where users reach a service, from what its objects say."""

from collections.abc import Sequence

from linkspan.errors import ReleaseNotFound
from linkspan.runtimes.base import KubeObject


def url_of(seen: Sequence[KubeObject], pods: Sequence[KubeObject], node: str, api_server: str) -> str:
    """The service's address: of its Ingress, else of its load balancer, else of a node port.

    `seen` are the objects as they are in the cluster. `node` is where node ports are reached; empty means the
    node of one of `pods`, else that of the API server. Raises ReleaseNotFound if there is no way in.
    """
    for ingress in (each for each in seen if each["kind"] == "Ingress"):
        spec = ingress["spec"]
        hosts = [rule.get("host") for rule in spec.get("rules") or []]
        if host := next(filter(None, hosts), None):
            secure = any(host in (entry.get("hosts") or []) for entry in spec.get("tls") or [])
            return f"{'https' if secure else 'http'}://{host}"
    services = [each for each in seen if each["kind"] == "Service"]
    for service in services:
        waiting = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
        if address := next((each.get("hostname") or each.get("ip") for each in waiting), None):
            return f"http://{_authority(address, service['spec']['ports'][0]['port'], 80)}"
    for service in services:
        for port in service["spec"].get("ports") or []:
            if port.get("nodePort"):
                at = [(pod.get("status") or {}).get("hostIP") for pod in pods]
                host = node or next(filter(None, at), "") or api_server
                return f"http://{_authority(host, port['nodePort'], 80)}"
    raise ReleaseNotFound(
        "the service has no address outside the cluster",
        expected="an Ingress with a host, a load balancer, or a node port",
        fix="Set `host` in linkspan.toml, or give the Service type NodePort or LoadBalancer",
    )


def _authority(host: str, port: int, default: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == default else f"{host}:{port}"
