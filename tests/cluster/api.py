"""As much of the API as the start of a cluster needs, and a test's namespace; else tests use kubectl.

kubectl takes a tenth of a second of a processor each time.
"""

import http.client
import json
import ssl
import time
from typing import Any

from tests.cluster.network import Network
from tests.cluster.places import CERTIFICATES


class Api:
    """The API server as the administrator sees it."""

    def __init__(self, network: Network) -> None:
        self._address = (network.node_ip, network.api_port)
        self._tls = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.crt"))
        self._tls.load_cert_chain(CERTIFICATES / "admin.crt", CERTIFICATES / "admin.key")

    def ready(self) -> bool:
        """Whether it answers and has made what it makes at its start."""
        return self._call("GET", "/readyz")[0] == 200

    def get(self, path: str) -> dict[str, Any] | None:
        """An object, or None if it is not there (yet)."""
        status, body = self._call("GET", path)
        return json.loads(body) if status == 200 else None

    def create(self, path: str, value: dict[str, Any]) -> None:
        """Make an object in a collection."""
        status, body = self._change("POST", path, json.dumps(value))
        if status not in {201, 409}:
            raise ConnectionError(f"POST {path}: {status} {body.decode(errors='replace')}")

    def allows(self, review: dict[str, Any]) -> bool:
        """Whether a user may do something, as the spec of a SubjectAccessReview."""
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        status, body = self._call("POST", path, json.dumps({"spec": review}))
        return status == 201 and bool(json.loads(body)["status"]["allowed"])

    def create_namespace(self, name: str) -> None:
        """Make one. Pods in it are refused until the controller manager has made its service account."""
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})

    def delete_namespace(self, name: str) -> None:
        """Begin to delete it and all that is in it."""
        status, body = self._change("DELETE", f"/api/v1/namespaces/{name}")
        if status not in {200, 202, 404, 409}:
            raise ConnectionError(
                f"namespace {name} is not deleted: {status} {body.decode(errors='replace')}"
            )

    def _change(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Ask until there is an answer: what an attempt without one has done is taken for done."""
        end = time.monotonic() + 600
        while not (answer := self._call(method, path, body))[0] and time.monotonic() < end:
            time.sleep(0.5)
        return answer

    def _call(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(*self._address, context=self._tls, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
