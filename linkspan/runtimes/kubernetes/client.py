"""The Kubernetes API as the runtime needs it: plain JSON objects in and out, and errors that say what to do.

Requests go through the `kubernetes` package, for its ways to log in (kubeconfig, service account, the exec
plugins of AKS and EKS). Its typed models would lose fields of kinds and versions that it does not know, and
its discovery keeps a cache at a well-known path in /tmp: so objects stay dicts, and which path a kind has is
asked once per client.
"""

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import certifi
import urllib3
import websocket
import yaml
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream.ws_client import get_websocket_url, websocket_proxycare

from linkspan.errors import ConfigError, RuntimeDenied, RuntimeUnavailable
from linkspan.runtimes.asking import CannotAsk
from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.marks import FIELD_MANAGER
from linkspan.runtimes.kubernetes.nodes import Node

_TIMEOUT = (15, 60)
"""Seconds to connect and to wait for an answer."""

# What etcd says comes as 500, whether it passes or not (etcd api/v3rpc/rpctypes, gRPC's limit on messages).
_FULL = re.compile("database space exceeded")
_TOO_LARGE = re.compile("request is too large|sending message larger than max|send message larger than max")
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}


class Refused(Exception):
    """The API server will not have an object; `str()` is its reason."""


class Conflict(Exception):
    """The object is not as the caller last saw it (409)."""


def open_client(kubeconfig: str, context: str) -> client.ApiClient:
    """A client for the cluster of `context`: of that kubeconfig's text, else as `kubectl` would find it.

    Raises ConfigError if there is no configuration, or none that can be used.
    """
    try:
        if kubeconfig:
            found = yaml.safe_load(kubeconfig)
            if not isinstance(found, dict):
                raise ConfigError(
                    "the kubeconfig in the block is no kubeconfig", expected="YAML with clusters"
                )
            api = config.new_client_from_config_dict(found, context=context or None, persist_config=False)
            return cast("client.ApiClient", api)
        try:
            api = config.new_client_from_config(context=context or None, persist_config=False)
            return cast("client.ApiClient", api)
        except ConfigException:
            if context or not Path("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file():
                raise
            inside = client.Configuration()
            config.load_incluster_config(client_configuration=inside)
            return client.ApiClient(inside)
    except (ConfigException, yaml.YAMLError, OSError) as error:
        # A YAML error quotes the text that it failed on, and that holds keys.
        found = "text that is not YAML" if isinstance(error, yaml.YAMLError) else str(error)
        raise ConfigError(
            "there is no cluster to talk to",
            found=found,
            fix="Put a kubeconfig into the block, set KUBECONFIG, or run in a pod with a service account",
        ) from None


class Cluster:
    """What the runtime asks of an API server.

    All calls raise RuntimeUnavailable (retriable) when it cannot be reached or is overloaded, RuntimeDenied
    when it does not let us, Refused when it will not have an object, Conflict for a lost race.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._http = dynamic.DynamicClient(api, discoverer=lambda *_: None)
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    @property
    def host(self) -> str:
        """Where the API server is."""
        return str(self._api.configuration.host)

    def find(self, obj: KubeObject) -> KubeObject | None:
        """An object as it is in the cluster; None if it is not there."""
        with suppress(_NotFound):
            return self._json("get", self._path_of(obj))
        return None

    def list(
        self, api: str, kind: str, namespace: str, *, labels: str = "", fields: str = ""
    ) -> list[KubeObject]:
        """All objects of a kind, of every namespace if that is empty."""
        options = {"label_selector": labels or None, "field_selector": fields or None}
        try:
            found = self._json("get", self._path(api, kind, namespace), **options)
        except _NotFound:
            return []
        # Items of a list lack what the list says once.
        return [{"apiVersion": api, "kind": kind, **item} for item in found.get("items") or []]

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, from what `kubectl get nodes -o wide` prints: the objects are a hundred times that."""
        found = self._json(
            "get",
            "/api/v1/nodes",
            query_params=[("includeObject", "None")],
            header_params={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
        )
        if "columnDefinitions" not in found:
            raise Refused("something before the API server does not let tables through")
        names = [str(column["name"]) for column in found["columnDefinitions"]]
        rows = [dict(zip(names, row["cells"], strict=True)) for row in found.get("rows") or []]
        return tuple(Node(row["Name"], row["Version"], row["Container-Runtime"]) for row in rows)

    def apply(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        """Server-side apply as the owner of these fields; others' fields stay. Returns what there is now."""
        return self._write(
            "patch",
            self._path_of(obj),
            missing=Refused,
            body=obj,
            content_type="application/apply-patch+yaml",
            force_conflicts=True,
            dry_run="All" if dry_run else None,
        )

    def create(self, obj: KubeObject) -> KubeObject:
        """Make it; Conflict if there is one of that name.

        It is sent as YAML, which JSON is, because the server then writes a ControllerRevision's data down in
        its own spelling of JSON. In ours, each later change of an annotation would be refused: the server
        compares the data byte by byte, and has spelled one side anew (seen with 1.34).
        """
        path = self._path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""))
        return self._write(
            "post", path, missing=Refused, body=json.dumps(obj), content_type="application/yaml"
        )

    def merge(self, obj: KubeObject, metadata: KubeObject) -> KubeObject:
        """Change these of its metadata; Conflict if the object is gone, or not of that resourceVersion."""
        return self.patch(obj, {"metadata": metadata})

    def patch(self, obj: KubeObject, change: KubeObject) -> KubeObject:
        """Change these of its fields (RFC 7386); Conflict as `merge`."""
        return self._write(
            "patch",
            self._path_of(obj),
            missing=Conflict,
            body=change,
            content_type="application/merge-patch+json",
        )

    def delete(self, obj: KubeObject, *, grace_seconds: int | None = None) -> bool:
        """Remove it and what belongs to it; False if it was gone. A pod has its own time to end, or this."""
        with suppress(_NotFound):
            self._json(
                "delete",
                self._path_of(obj),
                propagation_policy="Background",
                grace_period_seconds=grace_seconds,
            )
            return True
        return False

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> str | None:
        """The last lines that a container wrote; None if they cannot be had (any more)."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        most = [("tailLines", "20"), ("limitBytes", "65536")]
        query = [("container", container), *most, ("previous", str(previous).lower())]
        with suppress(_NotFound, Refused):
            return self._bytes("get", path, query_params=query).decode(errors="replace")
        return None

    def forward(self, namespace: str, pod: str, port: int, seconds: float) -> websocket.WebSocket:
        """A connection to a port of a pod (forward.py), made within `seconds`.

        Raises CannotAsk where there is none now.
        """
        configuration = self._api.configuration
        login = configuration.auth_settings().get("BearerToken") or {}
        path = f"/api/v1/namespaces/{_segment(namespace)}/pods/{_segment(pod)}/portforward"
        url = get_websocket_url(self.host + path, [("ports", port)])
        # The library's own function for this sets no time limit, and knows no way to.
        options: dict[str, Any] = {
            "timeout": seconds,
            "subprotocols": ["v4.channel.k8s.io"],
            "header": [f"authorization: {login['value']}"] if login else [],
            "sslopt": _tls(configuration),
            "skip_utf8_validation": True,
        }
        if configuration.proxy or configuration.proxy_headers:
            options = websocket_proxycare(options, configuration, url, {})
        try:
            with _asking(self.host):
                try:
                    return websocket.create_connection(url, **options)
                except websocket.WebSocketBadStatusException as error:
                    refused = ApiException(status=error.status_code, reason=str(error))
                    refused.body = (error.resp_body or b"").decode(errors="replace")
                    raise refused from None
                except websocket.WebSocketException as error:
                    raise OSError(str(error)) from None
        except (_NotFound, Refused, RuntimeUnavailable) as error:
            raise CannotAsk(
                f"pod {pod} cannot be asked through the API server",
                found=" ".join(str(error).split())[:300],
                fix="See whether `kubectl port-forward` to a pod works from here; where it cannot, set "
                'trial="engine" in the block of the runtime',
            ) from None

    def knows(self, obj: KubeObject) -> bool:
        """Whether the cluster has objects of this kind."""
        return obj["kind"] in self._known(obj["apiVersion"])

    def _path_of(self, obj: KubeObject) -> str:
        meta = obj["metadata"]
        return self._path(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])

    def _path(self, api: str, kind: str, namespace: str, name: str = "") -> str:
        try:
            plural, namespaced = self._known(api)[kind]
        except KeyError:
            raise Refused(f"this cluster knows no kind {kind} in {api}") from None
        where = f"/namespaces/{_segment(namespace)}" if namespaced and namespace else ""
        return f"{_root(api)}{where}/{plural}" + (f"/{_segment(name)}" if name else "")

    def _known(self, api: str) -> dict[str, tuple[str, bool]]:
        if api not in self._kinds:
            try:
                listed = self._json("get", _root(api)).get("resources") or []
            except _NotFound:
                return {}
            self._kinds[api] = {
                each["kind"]: (each["name"], bool(each["namespaced"]))
                for each in listed
                if "/" not in each["name"]
            }
        return self._kinds[api]

    def _write(self, method: str, path: str, *, missing: type[Exception], **options: Any) -> KubeObject:
        """As the owner of what is written; `missing` is the error if it, or its namespace, is not there."""
        try:
            return self._json(method, path, field_manager=FIELD_MANAGER, **options)
        except _NotFound as error:
            raise missing(str(error)) from None

    def _json(self, method: str, path: str, **options: Any) -> KubeObject:
        with _asking(self.host):
            found: KubeObject = json.loads(self._bytes(method, path, **options))
            return found

    def _bytes(self, method: str, path: str, **options: Any) -> bytes:
        with _asking(self.host):
            answer = self._http.request(method, path, serialize=False, _request_timeout=_TIMEOUT, **options)
            return bytes(answer.data)


class _NotFound(Exception): ...


def _tls(configuration: client.Configuration) -> dict[str, Any]:
    """As the package itself has it, in kubernetes.stream.ws_client."""
    if not configuration.verify_ssl:
        return {"cert_reqs": ssl.CERT_NONE}
    found = {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": configuration.ssl_ca_cert or certifi.where(),
        "check_hostname": configuration.assert_hostname,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return {key: value for key, value in found.items() if value is not None}


def _root(api: str) -> str:
    parts = [_segment(part) for part in api.split("/")]
    return ("/apis/" if len(parts) > 1 else "/api/") + "/".join(parts)


def _segment(name: str) -> str:
    """A name as a part of a path. It comes from an app's folder, and must not lead to another object.

    What no name may be or hold: k8s.io/apimachinery, pkg/api/validation/path.
    """
    if name in {"", ".", ".."} or "/" in name or "%" in name:
        raise Refused(f"nothing in a cluster can be called {name[:80]!r}")
    return quote(name, safe=":")


@contextmanager
def _asking(host: str) -> Iterator[None]:
    """Turn what goes wrong with a request into an error of ours."""
    try:
        yield
    except ApiException as error:
        raise _translated(error, host) from None
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise RuntimeUnavailable(
            f"the Kubernetes API server at {host} cannot be reached",
            found=" ".join(str(error).split())[:300],
            fix="What runs goes on running; check the cluster and the network",
        ) from None


def _translated(error: ApiException, host: str) -> Exception:
    try:
        said = str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        said = str(error.reason or "")
    said = " ".join(said.split())
    status = int(error.status or 0)
    if status == 404:
        return _NotFound(said)
    if status == 409:
        return Conflict(said)
    if _FULL.search(said):
        return RuntimeDenied(
            f"the cluster at {host} has no room for more objects",
            found=said,
            fix="Compact and defragment its etcd, then disarm the alarm: etcdctl alarm disarm",
        )
    if status in _TEMPORARY and not _TOO_LARGE.search(said):
        return RuntimeUnavailable(
            f"the Kubernetes API server at {host} does not answer now", found=f"{status} {said}"[:300]
        )
    # Admission also answers 403; only the authorizer says who is not allowed to do what.
    if status == 401 or (status == 403 and "User " in said and " cannot " in said):
        return RuntimeDenied(
            f"the cluster at {host} does not let us",
            found=said or "401 Unauthorized",
            fix="Give the account the rights in k8s/linkspan/ and, for kinds of the app's own, a Role; "
            "or use another kubeconfig",
        )
    return Refused(said or f"status {status}")
