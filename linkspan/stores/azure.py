"""A container in Azure Blob Storage as a model store.

Uploads are staged in blocks under IDs of our own: the SDK numbers blocks by offset, so that two concurrent
uploads of one blob would mix their bytes.
"""

import base64
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from linkspan.errors import ConfigError, ObjectChanged, ObjectExists, ObjectNotFound
from linkspan.progress import Progress
from linkspan.stores import azure_errors
from linkspan.stores.base import ObjectStore, StoredObject, Upload, changed
from linkspan.stores.ranges import RANGE, read_ranges
from linkspan.stores.settings import PREFIX, StoreSettings, folder
from linkspan.stores.several import one_then_several
from linkspan.stores.upload import Meter, one_part, part_size, parts, put_each, require_key, size_of

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

MIB = 1 << 20
# Marks the blob with the call that made it, so that a lost answer is told from a lost race.
_TOKEN = "linkspanput"  # noqa: S105 - a metadata key; Azure wants C# identifiers


class AzureStoreSettings(StoreSettings):
    """A container in Azure Blob Storage, and one of three ways to sign in."""

    container: str = Field(description="Name of the blob container. It must exist.", min_length=1)
    prefix: str = Field(default="", description=PREFIX)
    connection_string: SecretStr | None = Field(
        default=None,
        title="Connection string",
        description="Of the storage account, from its page 'Access keys'. Leave empty for the other ways.",
    )
    account_url: str = Field(
        default="",
        title="Account URL",
        description=(
            "For example https://myaccount.blob.core.windows.net. With a SAS token below, or alone: then "
            "managed identity, workload identity, environment or `az login` sign in."
        ),
    )
    sas_token: SecretStr | None = Field(
        default=None,
        title="SAS token",
        description="Shared access signature with the rights Read, List, Create and Write.",
    )

    def objects(self) -> ObjectStore:
        if bool(self.connection_string) == bool(self.account_url):
            raise ConfigError(
                f"Azure store {self.container}: how to sign in is not clear",
                expected="either a connection string or an account URL",
                found="both" if self.account_url else "neither",
            )
        if "?" in self.account_url:
            raise ConfigError(
                f"Azure store {self.container}: the account URL has a query, which may hold a secret",
                fix="Put what follows the question mark into the field SAS token",
            )
        return AzureObjects(self)


@dataclass(eq=False, repr=False)
class AzureObjects:
    """ObjectStore over a container. A pin is the blob's ETag.

    `block` bytes are uploaded per request, `range_size` bytes are read per request; `attempts` counts
    requests without success before StoreUnavailable; `page` is the number of keys per listing request.
    """

    settings: AzureStoreSettings
    _: KW_ONLY
    block: int = 8 * MIB
    range_size: int = RANGE
    attempts: int = 4
    page: int = 5000

    @property
    def url(self) -> str:
        # The client's URL carries the SAS after its question mark.
        return f"{self._client.url.partition('?')[0]}/{self._base}".rstrip("/")

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with self._translated():
            # Metadata tells the folders of a hierarchical namespace from blobs. Such an account also lists
            # folder by folder, which is not key order, hence sorted().
            pages = self._client.list_blobs(
                name_starts_with=self._base + prefix, include=["metadata"], results_per_page=self.page
            )
            found = [
                StoredObject(key=blob.name.removeprefix(self._base), size=blob.size, pin=blob.etag.strip('"'))
                for blob in pages
                if not (blob.metadata or {}).get("hdi_isfolder")
            ]
        yield from sorted(found, key=lambda obj: obj.key)

    def head(self, key: str) -> StoredObject:
        with self._translated(key):
            found = self._blob(key).get_blob_properties()
            return StoredObject(key=key, size=found.size, pin=found.etag.strip('"'))

    def head_all(self, keys: Sequence[str]) -> Sequence[StoredObject | None]:
        return one_then_several(lambda key, _: self._found(key), keys)

    def read(self, obj: StoredObject) -> Iterator[bytes]:
        if obj.size == 0:
            self._still_empty(obj)
        fetch = partial(self._fetch, obj)
        yield from read_ranges(obj, fetch, range_size=self.range_size, attempts=self.attempts)

    def put(self, key: str, source: Path | bytes, *, progress: Progress | None = None) -> StoredObject:
        require_key(key)
        upload = Upload(key, source, size_of(source))
        # A cheap question before gigabytes travel; the conditional commit is what decides.
        if upload.size > self.block and self._found(key):
            raise ObjectExists(f"{key} is there already")
        self._create(upload, progress)
        return self.head(key)

    def put_missing(
        self, uploads: Sequence[Upload], *, progress: Progress | None = None
    ) -> Sequence[StoredObject]:
        return put_each(self._create_missing, uploads, progress)

    def delete(self, key: str) -> None:
        try:
            with self._translated(key):
                self._blob(key).delete_blob()
        except ObjectNotFound:
            self._require_container()

    @cached_property
    def _base(self) -> str:
        return folder(self.settings.prefix)

    @cached_property
    def _client(self) -> "ContainerClient":
        from azure.core.credentials import AzureSasCredential
        from azure.storage.blob import ContainerClient, ExponentialRetry

        settings = self.settings
        # The SDK's own first pause is 15 s. Its range buffer would be 32 MiB.
        options: dict[str, Any] = {
            "retry_policy": ExponentialRetry(
                initial_backoff=1, increment_base=2, random_jitter_range=1, retry_total=self.attempts - 1
            ),
            "max_single_get_size": 1 << 40,  # one request, whose answer is read as it comes
            "max_single_put_size": self.block,
            "connection_timeout": 10,
            "read_timeout": 60,
        }
        if settings.connection_string:
            try:
                return ContainerClient.from_connection_string(
                    settings.connection_string.get_secret_value(), settings.container, **options
                )
            except ValueError:
                # The SDK's message may quote the string, which holds the key.
                raise ConfigError(
                    f"Azure store {settings.container}: the connection string cannot be read",
                    expected="DefaultEndpointsProtocol=…;AccountName=…;AccountKey=…",
                    fix="Copy it from the storage account's page 'Access keys'",
                ) from None
        credential: Any
        if settings.sas_token:
            credential = AzureSasCredential(settings.sas_token.get_secret_value().lstrip("?"))
        else:
            from azure.identity import DefaultAzureCredential

            credential = DefaultAzureCredential()
        return ContainerClient(settings.account_url, settings.container, credential=credential, **options)

    def _blob(self, key: str) -> "BlobClient":
        return self._client.get_blob_client(self._base + key)

    def _fetch(self, obj: StoredObject, offset: int, length: int) -> Iterator[bytes]:
        from azure.core import MatchConditions

        answer = _Answer()
        try:
            with self._translated(obj.key):
                download = self._blob(obj.key).download_blob(
                    offset,
                    length,
                    etag=f'"{obj.pin}"',
                    match_condition=MatchConditions.IfNotModified,
                    max_concurrency=1,
                    raw_response_hook=answer.take,
                )
                if answer.blocks is None:  # an SDK that opens it in another way
                    yield from download.chunks()
                    return
                with contextlib.closing(answer):
                    yield from answer.blocks
        except ObjectNotFound:
            self._require_container()
            raise changed(obj.key) from None

    def _still_empty(self, obj: StoredObject) -> None:
        try:
            now = self.head(obj.key)
        except ObjectNotFound:
            self._require_container()
            raise changed(obj.key) from None
        if now != obj:
            raise ObjectChanged(f"{obj.key} was overwritten", expected=obj.pin, found=now.pin)

    def _found(self, key: str) -> StoredObject | None:
        try:
            return self.head(key)
        except ObjectNotFound:
            self._require_container()
            return None

    def _create_missing(self, upload: Upload, progress: Progress) -> StoredObject | None:
        require_key(upload.key)
        try:
            return self.head(upload.key)
        except ObjectNotFound:  # the upload says so if it was the container
            pass
        try:
            self._create(upload, progress)
        except ObjectExists:  # by another publisher of the same file, meanwhile
            return self.head(upload.key)
        return None

    def _create(self, upload: Upload, progress: Progress | None) -> None:
        from azure.core.exceptions import HttpResponseError

        meter = Meter(progress)
        token = uuid.uuid4().hex
        upload.check()
        with self._translated(upload.key):
            blob = self._blob(upload.key)
            try:
                if upload.size <= self.block:
                    data = one_part(upload)
                    upload.check()
                    blob.upload_blob(data, length=upload.size, overwrite=False, metadata={_TOKEN: token})
                    meter.add(upload.size)
                else:
                    self._upload_blocks(blob, upload, token, meter)
            except HttpResponseError as error:
                if not azure_errors.means_exists(error) or not self._is_ours(upload.key, token):
                    raise

    def _upload_blocks(self, blob: "BlobClient", upload: Upload, token: str, meter: Meter) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        blocks = []
        size = upload.size
        for number, part in enumerate(parts(upload.source, size, part_size(size, self.block))):
            block = base64.b64encode(f"{token}{number:08d}".encode()).decode()
            blob.stage_block(block, part, length=len(part))
            blocks.append(BlobBlock(block_id=block))
            meter.add(len(part))
        upload.check()
        blob.commit_block_list(blocks, metadata={_TOKEN: token}, match_condition=MatchConditions.IfMissing)

    def _is_ours(self, key: str, token: str) -> bool:
        """Whether the blob was made by this very call, whose answer was lost before the SDK sent it again."""
        found = self._blob(key).get_blob_properties()
        return (found.metadata or {}).get(_TOKEN) == token

    def _require_container(self) -> None:
        with self._translated():
            if not self._client.exists():
                raise azure_errors.no_container(self.settings.container)

    @contextlib.contextmanager
    def _translated(self, key: str = "") -> Iterator[None]:
        from azure.core.exceptions import AzureError

        try:
            yield
        except AzureError as error:
            raise azure_errors.translate(error, self.settings.container, key) from None


class _Answer:
    """An answer whose body is read by us as it comes.

    The SDK would hold all of a range before it gives a byte of it, twice for a moment, and make room for
    a list of as many blocks as there are bytes; and what came before the connection broke would be lost.
    """

    def __init__(self) -> None:
        self.blocks: Any = None
        self._response: Any = None

    def take(self, response: Any) -> None:
        """A hook of the SDK: give it all of the answer but the body."""
        self._response = response.http_response
        stream = self._response.stream_download

        def elsewhere(*args: Any, **kwargs: Any) -> "_Elsewhere":
            self.blocks = stream(*args, **kwargs)
            return _Elsewhere(self.blocks)

        self._response.stream_download = elsewhere

    def close(self) -> None:
        self._response.internal_response.close()


class _Elsewhere:
    """Looks like the body of an answer, and has no bytes."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)
