"""The Secret that lets nodes pull from a private registry."""

import base64
import json
from collections.abc import Mapping

from linkspan.runtimes.base import KubeObject, Service
from linkspan.runtimes.kubernetes import names


def pull_secret(namespace: str, service: Service, image: str, auth: Mapping[str, str]) -> KubeObject:
    """The Secret with which nodes pull `image`.

    https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/
    """
    host = image.partition("/")[0]
    token = base64.b64encode(f"{auth['username']}:{auth['password']}".encode()).decode()
    login = {"username": auth["username"], "password": auth["password"], "auth": token}
    hosts = {host: login}
    if host in {"docker.io", "index.docker.io", "registry-1.docker.io"}:
        hosts["https://index.docker.io/v1/"] = login  # the name that the kubelet looks for
    document = json.dumps({"auths": hosts}, sort_keys=True).encode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": names.PULL_SECRET,
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.FIELD_MANAGER, names.SERVICE: str(service)},
        },
        "data": {".dockerconfigjson": base64.b64encode(document).decode()},
    }
