"""The kubernetes runtime: a Deployment whose pods are replaced without a failed request.

roll_out reads like what it does: write the revision down, apply the objects, wait until every replica is
ready and has the traffic, remove what it replaces. The cluster moves the traffic by itself; Linkspan sees
whether it went well, says why not, and puts the release before it back. A revision is live once somebody has
seen it ready; one that a killed rollout left is taken up by the next.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from linkspan.engine import engine_here
from linkspan.errors import ReleaseNotFound, RolloutFailed, RuntimeDenied
from linkspan.nouns import Revision
from linkspan.progress import Say
from linkspan.runtimes.base import (
    KubeObject,
    Later,
    Mounting,
    Rollout,
    RuntimeSettings,
    Service,
    Trial,
    at_once,
)
from linkspan.runtimes.docker.trial import trial as trial_on_engine
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.client import Cluster, Refused, open_client
from linkspan.runtimes.kubernetes.fields import objects, text
from linkspan.runtimes.kubernetes.marks import Snapshot, live_of
from linkspan.runtimes.kubernetes.nodes import offer
from linkspan.runtimes.kubernetes.objects import app_deployment, containers
from linkspan.runtimes.kubernetes.render import in_the_way
from linkspan.runtimes.kubernetes.rollout import KubeRollout
from linkspan.runtimes.kubernetes.service import KubeService
from linkspan.runtimes.kubernetes.trial import trial


class KubernetesRuntimeSettings(RuntimeSettings):
    """Which cluster runs releases, and how to get in."""

    kubeconfig: SecretStr | None = Field(
        default=None,
        description="Text of a kubeconfig. Empty: what kubectl would use, in a pod its service account.",
    )
    context: str = Field(default="", description="Context of the kubeconfig. Empty: its current one.")
    namespace: str = Field(
        default="",
        description="Namespace of the service, unless linkspan.toml names one. Empty: <app>-<environment>.",
    )
    pull_secret: bool = Field(
        default=True,
        description="Keep the registry's password in the namespace, for the nodes to pull with. Off where "
        "they may pull without: AKS with an attached registry, EKS nodes with ECR.",
    )
    trial: Literal["pod", "engine"] = Field(
        default="pod",
        description="Where a release is smoke-tested: in a pod beside the service, or on the Docker Engine "
        "of Linkspan's machine, for clusters without room for one more, or whose policies or runtime class "
        "keep Linkspan from asking it.",
    )
    node_address: str = Field(
        default="",
        description="Name or address at which users reach node ports, where there is neither Ingress nor "
        "load balancer. Empty: the node of a ready pod.",
    )

    def open(self, registry_auth: Mapping[str, str] | None = None) -> "KubernetesRuntime":
        """The runtime; `registry_auth` is {"username": …, "password": …} for pulls. Raises ConfigError."""
        text = self.kubeconfig.get_secret_value() if self.kubeconfig else ""
        return KubernetesRuntime(Cluster(open_client(text, self.context)), self, registry_auth)


class KubernetesRuntime:
    """A Runtime (linkspan/runtimes/base.py) on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        settings: KubernetesRuntimeSettings,
        registry_auth: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._login = registry_auth
        self._auth = registry_auth if settings.pull_secret else None

    # Asking

    def live(self, service: Service) -> Revision | None:
        found = live_of(self._service(service).snapshots())
        return found.revision if found else None

    def history(self, service: Service) -> list[Revision]:
        seen = self._service(service).snapshots()
        live = live_of(seen)
        return [
            each.revision.with_outcome("replaced")
            if each.state == "live" and each is not live  # an interrupted rollout had no time to say so
            else each.revision
            for each in seen
            if each.state != "rolling"
        ]

    def drift(self, service: Service, replicas: int) -> str:
        mine = self._service(service)
        snapshots = mine.snapshots()
        live = live_of(snapshots)
        if live is None:
            return "nothing runs"
        if live.replicas != replicas:
            return f"it was rolled out with {live.replicas} replicas instead of {replicas}"
        if sum(each.state == "live" for each in snapshots) > 1:
            return f"the rollout of revision {live.revision.number} was interrupted before it was finished"
        # A pod that is being replaced is the cluster's own business, and repairing would not help it.
        return mine.drift(live.objects)

    def mounting(self, path: str, objects: Sequence[KubeObject]) -> Mounting:
        """By the versions of all nodes, if the account may see them (k8s/linkspan/nodes.yaml)."""
        if reason := in_the_way(objects or default_objects(), path):
            return Mounting("none", reason)
        try:
            return offer(self._cluster.nodes())
        except (RuntimeDenied, Refused):
            return Mounting("unknown", "Linkspan's account may not see which nodes there are")

    def refresh(self, service: Service) -> None:
        """Renew the password that nodes pull with: that of ECR is good for 12 hours."""
        mine = self._service(service)
        live = live_of(mine.snapshots())
        if live and self._auth:
            mine.keep_credentials(_image(live), self._auth)

    def url(self, service: Service) -> str:
        mine = self._service(service)
        live = live_of(mine.snapshots())
        if live is None:
            raise ReleaseNotFound(f"{service} was never released in namespace {mine.namespace}")
        known = filter(self._cluster.knows, live.objects)
        seen = [found for each in known if (found := self._cluster.find(each)) is not None]
        pods = mine.observe(live.objects, live.revision.number).pods
        return url_of(seen, pods, self._settings.node_address, urlsplit(self._cluster.host).hostname or "")

    def revision_of(self, service: Service, replica: str) -> int | None:
        mine = self._service(service)
        said = mine.replica(replica)
        # A number is given again where a rollout was forgotten: the image tells the two apart.
        known = {str(each.revision.number): each.revision for each in mine.snapshots()}
        found = known.get(said.get(marks.REVISION, ""))
        return found.number if found and found.release.image == said.get(marks.IMAGE) else None

    # Doing

    @contextmanager
    def trial(self, rollout: Rollout, *, say: Say, later: Later = at_once) -> Iterator[Trial]:
        if self._settings.trial == "engine":
            with trial_on_engine(engine_here(), rollout, auth=self._login, say=say, later=later) as container:
                yield container
            return
        mine = self._service(rollout.service)
        with _asking(rollout.service), trial(mine, rollout, self._auth, say=say, later=later) as running:
            yield running

    def roll_out(self, rollout: Rollout, *, say: Say) -> Revision:
        mine = self._service(rollout.service)
        with _asking(rollout.service):
            return KubeRollout(rollout, mine, self._auth, say).run()

    def destroy(self, service: Service) -> None:
        mine = self._service(service)
        if mine.gone():
            return
        snapshots = mine.snapshots()
        mine.prune((obj for snapshot in snapshots for obj in snapshot.objects), ())
        mine.remove_trials()
        mine.remove_credentials()
        for snapshot in snapshots:
            mine.forget(snapshot.revision.number)
        mine.remove_namespace()

    def _service(self, service: Service) -> KubeService:
        namespace = service.namespace or self._settings.namespace or str(service)
        return KubeService(self._cluster, service, namespace)


@contextmanager
def _asking(service: Service) -> Iterator[None]:
    """Turn a refusal of the cluster that no step expected into RolloutFailed."""
    try:
        yield
    except Refused as error:
        raise RolloutFailed(
            f"the cluster refuses what it was asked to do for {service}", found=str(error)[:600]
        ) from None


def _image(live: Snapshot) -> str:
    """The reference of a revision's image, by its digest."""
    images = (str(each["image"]) for each in containers(app_deployment(live.objects)))
    return next(image for image in images if image.endswith(live.revision.release.image))


def url_of(seen: Sequence[KubeObject], pods: Sequence[KubeObject], node: str, api_server: str) -> str:
    """The service's address: of its Ingress, else of its load balancer, else of a node port.

    `seen` are the objects as they are in the cluster. `node` is where node ports are reached; empty means the
    node of one of `pods`, else that of the API server. Raises ReleaseNotFound if there is no way in.
    """
    for ingress in (each for each in seen if each["kind"] == "Ingress"):
        hosts = (text(rule, "host") for rule in objects(ingress, "spec", "rules"))
        if host := next(filter(None, hosts), ""):
            secure = any(host in (each.get("hosts") or []) for each in objects(ingress, "spec", "tls"))
            return f"{'https' if secure else 'http'}://{host}"
    services = [each for each in seen if each["kind"] == "Service"]
    for service in services:
        for way in objects(service, "status", "loadBalancer", "ingress")[:1]:
            if address := text(way, "hostname") or text(way, "ip"):
                return _http(address, service["spec"]["ports"][0]["port"])
    for service in services:
        for port in objects(service, "spec", "ports"):
            if port.get("nodePort"):
                nodes = (text(pod, "status", "hostIP") for pod in pods)
                return _http(node or next(filter(None, nodes), "") or api_server, port["nodePort"])
    raise ReleaseNotFound(
        "the service has no address outside the cluster",
        expected="an Ingress with a host, a load balancer, or a node port",
        fix="Set `host` in linkspan.toml, or give the Service type NodePort or LoadBalancer",
    )


def _http(host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}" if port == 80 else f"http://{host}:{port}"
