"""The cluster's certificate authority, the certificates it gives out, and the kubeconfigs that carry them."""

import base64
import datetime
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.network import Network
from tests.cluster.places import ADMIN, CERTIFICATES, KUBECONFIGS, NODE

# Who each part is: common name and organization are user and group in Kubernetes.
CLIENTS = {
    "admin": ("linkspan-admin", "system:masters"),
    "apiserver-to-kubelet": ("linkspan-apiserver", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "coredns": ("system:coredns", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
    "scheduler": ("system:kube-scheduler", ""),
}

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_certificates(network: Network) -> None:
    """Everything into CERTIFICATES, and a kubeconfig for each client; only their owner may read them."""
    CERTIFICATES.mkdir(mode=0o700, parents=True)
    KUBECONFIGS.mkdir(mode=0o700)
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "linkspan-cluster")])
    root = (
        _builder(name, name, authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    _save("ca", authority, root)
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += ["kubernetes.default.svc.cluster.local"]
    addresses = [network.node_ip, network.kubernetes_ip, "127.0.0.1"]
    _issue("apiserver", ("linkspan-apiserver", ""), authority, root, names=names, addresses=addresses)
    _issue("kubelet-server", (NODE, ""), authority, root, names=[NODE], addresses=[network.node_ip])
    for client, who in CLIENTS.items():
        _issue(client, who, authority, root)
        path = ADMIN if client == "admin" else KUBECONFIGS / client
        _write(path, json.dumps(_kubeconfig(client, network), indent=1).encode())
    # Signs the tokens of service accounts; RS256 is what every client can check.
    signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write(CERTIFICATES / "service-accounts.key", _pem(signer))


def _issue(
    file: str,
    who: tuple[str, str],
    authority: Key,
    root: x509.Certificate,
    *,
    names: list[str] | None = None,
    addresses: list[str] | None = None,
) -> None:
    """A certificate of a server, if it has names, else of a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    common, organization = who
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(x509.Name(subject), root.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names:
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses or []]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    _save(file, key, builder.sign(authority, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _kubeconfig(client: str, network: Network) -> dict[str, object]:
    def embedded(file: str) -> str:
        return base64.b64encode((CERTIFICATES / file).read_bytes()).decode()

    user = {
        "client-certificate-data": embedded(f"{client}.crt"),
        "client-key-data": embedded(f"{client}.key"),
    }
    cluster = {"server": network.api_server, "certificate-authority-data": embedded("ca.crt")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "linkspan", "cluster": cluster}],
        "users": [{"name": client, "user": user}],
        "contexts": [{"name": "linkspan", "context": {"cluster": "linkspan", "user": client}}],
        "current-context": "linkspan",
    }


def _save(name: str, key: Key, certificate: x509.Certificate) -> None:
    _write(CERTIFICATES / f"{name}.key", _pem(key))
    _write(CERTIFICATES / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
