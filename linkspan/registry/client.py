"""The registry client: OCI distribution for one repository.

OCI distribution-spec 1.1, with OCI and Docker schema-2 media types. What real registries do otherwise than
the specification says is in tests/registry/fake.py.
"""

import time
from collections.abc import Callable, Sequence
from typing import Self

import httpx

from linkspan.errors import DigestMismatch, RegistryDenied, RegistryError, RegistryNotFound
from linkspan.nouns import Digest, sha256, short
from linkspan.registry import media
from linkspan.registry.auth import CredentialRule, Password
from linkspan.registry.blobs import Blobs
from linkspan.registry.media import Image, Manifest, choose, media_type_of, parse
from linkspan.registry.ref import api_host, is_loopback
from linkspan.registry.transport import Transport

PLATFORM = "linux/amd64"
# What a registry must take, distribution-spec "Pushing manifests".
_MANIFEST_CAP = 4 << 20


class Registry(Blobs):
    """One repository of a registry.

    Every call raises RegistryUnavailable (retriable: network, 429, 5xx), RegistryDenied (naming registry and
    user) or RegistryNotFound (a missing repository, manifest or blob); calls that write also RegistryFull.
    Not for several threads at once.
    """

    def __init__(
        self,
        host: str,
        repository: str,
        rule: CredentialRule | None = None,
        *,
        scheme: str = "",
        trusted_realms: Sequence[str] = (),
        chunk: int = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self.repository = repository
        base = httpx.URL(f"{scheme or ('http' if is_loopback(host) else 'https')}://{api_host(host)}")
        login = rule or Password("", None)
        super().__init__(
            f"{host}/{repository}",
            Transport(base, repository, login, trusted_realms=trusted_realms, sleep=sleep),
            chunk=chunk,
        )

    def __repr__(self) -> str:
        return f"Registry({self.name})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections."""
        self._transport.close()

    @property
    def sent(self) -> int:
        """Bytes of request bodies so far."""
        return self._transport.sent

    @property
    def received(self) -> int:
        """Bytes of answers' bodies so far."""
        return self._transport.received

    def check(self) -> None:
        """Raise unless the registry answers, takes our login and lets us push here; leaves nothing behind."""
        self._transport.call("GET", "", what="logging in", expect=(200,))
        self._cancel(self._start_upload())

    def manifest(self, reference: str, *, platform: str = PLATFORM) -> Manifest:
        """The manifest of a tag or digest; of an index, the one for `platform`. Raises DigestMismatch."""
        found = self._manifest(reference)
        return self._manifest(choose(found, platform)) if found.is_index else found

    def _manifest(self, reference: str) -> Manifest:
        answer = self._transport.call(
            "GET",
            f"manifests/{reference}",
            what=f"reading manifest {reference}",
            expect=(200,),
            headers=_ACCEPT,
            cap=_MANIFEST_CAP,
        )
        manifest = Manifest(
            answer.content, media_type_of(answer.content, answer.headers.get("content-type", ""))
        )
        promised = reference if _is_digest(reference) else answer.headers.get("docker-content-digest")
        if promised and promised.startswith("sha256:"):
            _same(f"manifest {self.name}:{reference}", promised, manifest.digest)
        return manifest

    def exists(self, reference: str) -> Digest | None:
        """The digest of a tag or digest, None if it is not there. Of an index, the index's own digest."""
        answer = self._transport.call(
            "HEAD",
            f"manifests/{reference}",
            what=f"looking for manifest {reference}",
            expect=(200, 404),
            headers=_ACCEPT,
        )
        if answer.status == 404:
            return None
        digest: str = answer.headers.get("docker-content-digest", "")
        # The header is optional in the specification.
        return digest if _is_digest(digest) else self._manifest(reference).digest

    def push_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Digest:
        """Store a manifest under its digest, and `tag`. All it names must be there before."""
        digest = sha256(data)
        reference = tag or digest
        answer = self._transport.call(
            "PUT",
            f"manifests/{reference}",
            what=f"pushing manifest {reference}",
            expect=(201, 202),
            body=data,
            headers={"Content-Type": media_type},
        )
        stored = answer.headers.get("docker-content-digest", "")
        if _is_digest(stored):
            _same(f"manifest {self.name}:{reference} as stored", digest, stored)
        return digest

    def tag(self, digest: Digest, tag: str) -> None:
        """Give a manifest that is there another name."""
        manifest = self._manifest(digest)
        self.push_manifest(manifest.data, manifest.media_type, tag)

    def tags(self) -> list[str]:
        """All tags, in the registry's order; none if the repository is not there yet."""
        names: list[str] = []
        page: str | httpx.URL = "tags/list?n=1000"
        for _ in range(1000):
            answer = self._transport.call("GET", page, what="listing tags", expect=(200, 404))
            if answer.status == 404:
                return names
            listed = parse(answer.content, f"tag list of registry {self.host}").get("tags") or []
            names += map(str, listed)
            following = _next_link(answer.headers.get_list("link"))
            if following is None:
                return names
            # Relative to the page it was on (RFC 8288 section 3.2).
            page = self._transport.url(page).join(following)
        raise RegistryError(f"registry {self.host} lists tags of {self.repository} without end")

    def delete_manifest(self, digest: Digest) -> bool:
        """Remove a manifest and its tags; False where the registry does not do that or does not let us."""
        try:
            answer = self._transport.call(
                "DELETE",
                f"manifests/{digest}",
                what=f"deleting manifest {short(digest)}",
                expect=(200, 202, 204, 400, 404, 405),
                actions="pull,push,delete",
            )
        except RegistryDenied:
            return False
        return answer.status not in (400, 405)

    def image(self, reference: str, *, platform: str = PLATFORM) -> Image:
        """Manifest and config of an image. Raises DigestMismatch."""
        manifest = self.manifest(reference, platform=platform)
        config = manifest.document.get("config")
        if not isinstance(config, dict) or not _is_digest(str(config.get("digest"))):
            raise RegistryError(
                f"{self.name}:{reference} is no image",
                found=manifest.media_type or "no media type",
            )
        image = Image(manifest, self.blob(config["digest"]))
        image.verify()
        return image

    def push_image(self, image: Image, tag: str | None = None) -> Digest:
        """Store config and manifest, the manifest last. The layers must be there, with the sizes it says.

        Registries do not check those sizes (Distribution 2.8 takes any), and engines fail on them much later.
        """
        image.verify()
        for layer in image.manifest.document.get("layers") or []:
            # An empty blob may serve as both config and layer; it is pushed just below.
            if layer.get("urls") or layer["digest"] == sha256(image.config):
                continue
            size = self.blob_size(layer["digest"])
            what = f"layer {layer['digest']} of image {short(image.digest)} in {self.name}"
            if size is None:
                raise RegistryNotFound(what, fix="Push the layer first")
            if size != layer["size"]:
                raise DigestMismatch(what, expected=f"{layer['size']} bytes", found=size)
        self.push_blob(image.config)
        return self.push_manifest(image.manifest.data, image.manifest.media_type, tag)


_ACCEPT = {"Accept": ", ".join(media.MANIFESTS)}


def _is_digest(text: str) -> bool:
    return text.startswith("sha256:") and len(text) == 71


def _same(what: str, expected: str, found: str) -> None:
    if expected != found:
        raise DigestMismatch(what, expected=expected, found=found)


def _next_link(headers: list[str]) -> str | None:
    for header in headers:
        target, _, parameters = header.partition(">")
        if 'rel="next"' in parameters or "rel=next" in parameters:
            return target.strip().removeprefix("<")
    return None
