"""The password with which the nodes pull, as it is in the cluster."""

import base64
import json

from linkspan.runtimes.base import Service
from tests.services.cluster import RunningCluster


def password_in(cluster: RunningCluster, service: Service) -> str:
    secret = cluster.get(str(service), "secret", "linkspan-registry")
    [login] = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"].values()
    return str(login["password"])
