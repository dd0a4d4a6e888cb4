"""The certificates with which Amazon SNS signs: fetching one, and whether a signature was made with it."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from linkspan.errors import WebhookRefused, WebhookUnchecked
from linkspan.webhooks.providers.payload import brief

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import Certificate

# SNS has one certificate at a time for a region, and a new one every few months.
_KEPT = 16
# Two machines' clocks may be a day apart.
_GRACE = timedelta(days=1)
# A certificate is about 2 KiB.
_CAP = 64 << 10
# SNS gives up on an answer after 15 s.
SECONDS = 5.0


def fetch_certificate(url: str, *, seconds: float = SECONDS) -> bytes:
    """What is at `url`: at most 64 KiB, no redirect followed, in `seconds` at most.

    The caller has checked the address. Raises WebhookUnchecked if it cannot be had now, WebhookRefused if the
    answer is another one than a certificate's.
    """
    import httpx

    end = time.monotonic() + seconds
    try:
        with (
            httpx.Client(
                timeout=seconds, follow_redirects=False, headers={"User-Agent": "linkspan"}
            ) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code >= 500 or answer.status_code == 429:
                raise _away(f"HTTP {answer.status_code}")
            if answer.status_code != 200:
                raise WebhookRefused(
                    "there is no certificate at the message's address", found=f"HTTP {answer.status_code}"
                )
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _CAP:
                    raise WebhookRefused("the certificate is too big", expected=f"at most {_CAP} bytes")
                if time.monotonic() > end:
                    raise _away("it comes too slowly")
            return bytes(content)
    except httpx.HTTPError as error:
        raise _away(type(error).__name__) from None


class Certificates:
    """Certificates by their URL, fetched once; the ones used longest ago are dropped."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        self._known: OrderedDict[str, Certificate] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, address: str, version: str, signature: bytes, signed: bytes, *, at: datetime) -> None:
        """Raises WebhookRefused unless `signature` of `signed` was made with the certificate's key.

        `version` is SNS's: 1 is RSA PKCS#1 v1.5 with SHA-1, 2 the same with SHA-256.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        # SHA-1 is what SNS signs with unless the topic says otherwise; forging it needs a second preimage.
        algorithms = {"1": hashes.SHA1, "2": hashes.SHA256}
        if version not in algorithms:
            raise WebhookRefused("an unknown signature version", expected="1 or 2", found=brief(version, 20))
        certificate = self._get(address)
        if not certificate.not_valid_before_utc - _GRACE <= at <= certificate.not_valid_after_utc + _GRACE:
            raise WebhookRefused(
                "the certificate of the signature is not valid now",
                expected=f"{certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}",
                found=str(at),
            )
        try:
            # S303: the version of the signature is the sender's choice, see above.
            _rsa(certificate).verify(signature, signed, padding.PKCS1v15(), algorithms[version]())
        except InvalidSignature:
            raise WebhookRefused("the signature is wrong") from None

    def _get(self, address: str) -> "Certificate":
        with self._lock:
            if address in self._known:
                self._known.move_to_end(address)
                return self._known[address]
        # Not under the lock: one slow answer must not hold up messages whose certificate is known.
        certificate = _load(self._fetch(address))
        with self._lock:
            self._known[address] = certificate
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return certificate


def _load(pem: bytes) -> "Certificate":
    from cryptography.x509 import load_pem_x509_certificate

    try:
        certificate = load_pem_x509_certificate(pem)
        _rsa(certificate)
    except ValueError:
        raise WebhookRefused("what is at the certificate's address is none") from None
    return certificate


def _rsa(certificate: "Certificate") -> "RSAPublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        key = None
    if not isinstance(key, RSAPublicKey):
        raise WebhookRefused("the certificate's key is not RSA")
    return key


def _away(found: str) -> WebhookUnchecked:
    return WebhookUnchecked(
        "the certificate of the message cannot be had from SNS",
        found=found,
        fix="The receiver must reach https://sns.<region>.amazonaws.com; SNS sends the message again",
    )
