"""A mutating admission webhook, as others run it in their clusters: it changes every Deployment on its way.

What it adds is what such webhooks add: a variable, a toleration and an annotation of the pods.
"""

import base64
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from linkspan.runtimes.base import Service
from tests.services.cluster import RunningCluster
from tests.waiting import until

HOST = "127.0.0.1"  # the API server is a process of this machine


@contextmanager
def webhook(
    cluster: RunningCluster, service: Service, folder: Path, *, dry_run: bool, drops: bool = False
) -> Iterator[None]:
    """Let it act in the service's namespace. Without `dry_run` it refuses to be asked what it would do.

    `drops`: it does as an API server whose gate ImageVolume is off, and takes such volumes out.
    """
    certificate = _certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server = ThreadingHTTPServer((HOST, 0), _handler(dry_run=dry_run, drops=drops))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kind = "MutatingWebhookConfiguration"
    hook = {
        "name": "inject.example.org",
        "clientConfig": {"url": f"https://{HOST}:{server.server_address[1]}/", "caBundle": certificate},
        "rules": [
            {
                "apiGroups": ["apps"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["deployments"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": str(service)}},
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 30,  # the most that is allowed
        "admissionReviewVersions": ["v1"],
    }
    api = "admissionregistration.k8s.io/v1"
    named = {"apiVersion": api, "kind": kind, "metadata": {"name": str(service)}}
    cluster.apply("default", {**named, "webhooks": [hook]})
    try:
        _wait_until_asked(cluster, service, server)
        yield
    finally:
        cluster.run("delete", f"{kind}/{service}")
        server.shutdown()
        thread.join()
        server.server_close()


def _wait_until_asked(cluster: RunningCluster, service: Service, server: ThreadingHTTPServer) -> None:
    create = ["create", "deployment", "probe", "--image=none", "-n", str(service), "--dry-run=server"]
    asked = server.RequestHandlerClass.asked  # type: ignore[attr-defined]

    def in_force() -> bool:
        cluster.run(*create, check=False)
        return bool(asked.is_set())

    until(in_force)


def _handler(*, dry_run: bool, drops: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        asked = threading.Event()

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = _answer(review["request"], dry_run=dry_run, drops=drops)
            body = json.dumps({**review, "request": None, "response": answer}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.asked.set()

        def log_message(self, *_: object) -> None: ...

    return Handler


def _answer(request: dict[str, Any], *, dry_run: bool, drops: bool) -> dict[str, Any]:
    answer = {"uid": request["uid"], "allowed": True}
    if request.get("dryRun") and not dry_run:
        return {**answer, "allowed": False, "status": {"message": "I know no dry run"}}
    template = request["object"]["spec"]["template"]
    pod = template["spec"]
    for container in pod["containers"]:
        kept = [each for each in container.get("env", []) if each["name"] != "INJECTED"]
        container["env"] = [*kept, {"name": "INJECTED", "value": "yes"}]
    if drops:
        gone = {each["name"] for each in pod.get("volumes", ()) if "image" in each}
        pod["volumes"] = [each for each in pod.get("volumes", ()) if each["name"] not in gone]
        for container in pod["containers"]:
            mounts = container.get("volumeMounts", ())
            container["volumeMounts"] = [each for each in mounts if each["name"] not in gone]
    pod["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    template["metadata"].setdefault("annotations", {})["example.org/injected"] = "yes"
    patch = [{"op": "replace", "path": "/spec/template", "value": template}]
    return {
        **answer,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
    }


def _certificate(folder: Path) -> str:
    """Write tls.crt and tls.key; returns the certificate as caBundle has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.crt").write_bytes(pem)
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return base64.b64encode(pem).decode()
