"""A bucket of Amazon S3, or of anything that speaks its protocol, as a model store."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from linkspan.errors import (
    ConfigError,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from linkspan.progress import Progress
from linkspan.stores import s3_errors
from linkspan.stores.base import ObjectStore, StoredObject, Upload, changed
from linkspan.stores.ranges import RANGE, read_ranges
from linkspan.stores.settings import PREFIX, StoreSettings, folder
from linkspan.stores.several import one_then_several
from linkspan.stores.upload import Meter, one_part, part_size, parts, put_each, require_key, size_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1 << 20
# Marks the object with the call that made it, so that a lost answer is told from a lost race.
_TOKEN = "linkspan-put"  # noqa: S105 - a metadata key
_CONFLICTS = 5
# Several connections take such a block each, besides what is held of their ranges.
_BLOCK = 256 << 10


class S3StoreSettings(StoreSettings):
    """A bucket. Without keys the standard AWS credential chain signs in (role, profile, environment)."""

    bucket: str = Field(description="Name of the bucket. It must exist.", min_length=1)
    prefix: str = Field(default="", description=PREFIX)
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="Leave empty for AWS. Else the address of a compatible store, with http:// or https://.",
    )
    region: str = Field(default="", description="For example eu-central-1. Leave empty to let AWS decide.")
    access_key_id: str = Field(
        default="", title="Access key ID", description="Only together with its secret."
    )
    secret_access_key: SecretStr | None = Field(default=None, title="Secret access key")
    session_token: SecretStr | None = Field(
        default=None, title="Session token", description="Only for temporary credentials."
    )

    def objects(self) -> ObjectStore:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ConfigError(
                f"S3 store {self.bucket}: half of a key",
                expected="access key ID and secret access key, or neither",
            )
        return S3Objects(self)


@dataclass(eq=False, repr=False)
class S3Objects:
    """ObjectStore over a bucket.

    A pin is `version:<id>` if the bucket is versioned, else `etag:<etag>`. `part` bytes are uploaded per
    request (S3's minimum is 5 MiB), `range_size` bytes are asked for per request; `attempts` counts requests
    without success before StoreUnavailable; `page` is the number of keys per listing request.
    """

    settings: S3StoreSettings
    _: KW_ONLY
    part: int = 16 * MIB
    range_size: int = RANGE
    attempts: int = 4
    page: int = 1000

    @property
    def url(self) -> str:
        return f"s3://{self.settings.bucket}/{self._base}".rstrip("/")

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket,
                Prefix=self._base + prefix,
                PaginationConfig={"PageSize": self.page},
            )
            for page in pages:
                for found in page.get("Contents", []):
                    # The AWS console makes "folders": empty objects whose key ends with a slash.
                    if not found["Key"].endswith("/"):
                        key = found["Key"].removeprefix(self._base)
                        yield StoredObject(key=key, size=found["Size"], pin=f"etag:{found['ETag']}")

    def head(self, key: str) -> StoredObject:
        return _stored(key, self._head(key))

    def head_all(self, keys: Sequence[str]) -> Sequence[StoredObject | None]:
        return one_then_several(lambda key, _: self._found(key), keys)

    def read(self, obj: StoredObject) -> Iterator[bytes]:
        if obj.size == 0:
            self._still_empty(obj)
        fetch = partial(self._fetch, obj)
        yield from read_ranges(obj, fetch, range_size=self.range_size, attempts=self.attempts)

    def put(self, key: str, source: Path | bytes, *, progress: Progress | None = None) -> StoredObject:
        require_key(key)
        # The condition of the upload is what decides. This question saves an upload, and protects objects
        # from endpoints that do not know the condition and would overwrite.
        if self._found(key):
            raise ObjectExists(f"{key} is there already")
        self._create(Upload(key, source, size_of(source)), progress)
        return self.head(key)

    def put_missing(
        self, uploads: Sequence[Upload], *, progress: Progress | None = None
    ) -> Sequence[StoredObject]:
        return put_each(self._create_missing, uploads, progress)

    def delete(self, key: str) -> None:
        with self._translated(key):
            self._client.delete_object(Bucket=self.settings.bucket, Key=self._base + key)

    @cached_property
    def _base(self) -> str:
        return folder(self.settings.prefix)

    @cached_property
    def _client(self) -> "S3Client":
        import boto3
        from botocore.config import Config

        settings = self.settings
        custom = bool(settings.endpoint_url)
        options: dict[str, Any] = {
            "retries": {"total_max_attempts": self.attempts, "mode": "standard"},
            "connect_timeout": 10,
            "read_timeout": 60,
        }
        if custom:
            # Other stores have no DNS name per bucket, and older ones refuse the checksums that AWS's
            # SDK adds by itself since 2025.
            options["s3"] = {"addressing_style": "path"}
            options["request_checksum_calculation"] = "when_required"
            options["response_checksum_validation"] = "when_required"
        with self._translated():
            session = boto3.Session(
                aws_access_key_id=settings.access_key_id or None,
                aws_secret_access_key=_open(settings.secret_access_key),
                aws_session_token=_open(settings.session_token),
                region_name=settings.region or ("us-east-1" if custom else None),
            )
            try:
                return session.client(
                    "s3", endpoint_url=settings.endpoint_url or None, config=Config(**options)
                )
            except ValueError as error:
                raise ConfigError(f"S3 store {settings.bucket}: {error}") from None

    def _head(self, key: str) -> Any:
        try:
            return self._ask(key)
        except StoreError as error:
            if not error.retriable:
                self._explain(key)
            raise

    def _ask(self, key: str) -> Any:
        with self._translated(key):
            return self._client.head_object(Bucket=self.settings.bucket, Key=self._base + key)

    def _explain(self, key: str) -> None:
        """Raise what is wrong, unless it is only that the key is not there.

        An answer to HEAD has no body, so 404 may be the key or the bucket, and 400 or 403 an expired token,
        a wrong key or a missing right. A listing says which.
        """
        with self._translated(key):
            self._client.list_objects_v2(Bucket=self.settings.bucket, MaxKeys=1)

    def _found(self, key: str) -> StoredObject | None:
        try:
            return self.head(key)
        except ObjectNotFound as error:
            if error.found == s3_errors.NO_BUCKET:
                raise
            return None

    def _fetch(self, obj: StoredObject, offset: int, length: int) -> Iterator[bytes]:
        kind, _, value = obj.pin.partition(":")
        pinned: dict[str, Any] = {"VersionId": value} if kind == "version" else {"IfMatch": value}
        try:
            with self._translated(obj.key):
                answer = self._client.get_object(
                    Bucket=self.settings.bucket,
                    Key=self._base + obj.key,
                    Range=f"bytes={offset}-{offset + length - 1}",
                    **pinned,
                )
                body = answer["Body"]
                try:
                    if offset and not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
                        raise _other_range(obj.key, offset, answer.get("ContentRange", ""))
                    yield from body.iter_chunks(_BLOCK)
                finally:
                    body.close()
        except ObjectNotFound as error:
            if error.found == s3_errors.NO_BUCKET:
                raise
            raise changed(obj.key) from None

    def _still_empty(self, obj: StoredObject) -> None:
        """A range of nothing cannot be asked for, so an empty object is pinned by its metadata alone."""
        kind, _, value = obj.pin.partition(":")
        if kind == "version":
            return
        try:
            now = self._head(obj.key)
        except ObjectNotFound as error:
            if error.found == s3_errors.NO_BUCKET:
                raise
            raise changed(obj.key) from None
        if now["ETag"] != value:
            raise ObjectChanged(f"{obj.key} was overwritten", expected=value, found=now["ETag"])

    def _create_missing(self, upload: Upload, progress: Progress) -> StoredObject | None:
        require_key(upload.key)
        try:
            return _stored(upload.key, self._ask(upload.key))
        except ObjectNotFound:  # the upload says so if it was the bucket
            pass
        except StoreError as error:
            if not error.retriable:
                self._explain(upload.key)
            raise
        try:
            self._create(upload, progress)
        except ObjectExists:  # by another publisher of the same file, meanwhile
            return self.head(upload.key)
        return None

    def _create(self, upload: Upload, progress: Progress | None) -> None:
        meter = Meter(progress)
        token = uuid.uuid4().hex
        for attempt in range(_CONFLICTS):
            meter.restart()
            upload.check()
            try:
                with self._translated(upload.key):
                    self._send(upload, token, meter)
            except ObjectExists:
                # The answer to an earlier try of this very call may have been lost on the way.
                if self._head(upload.key).get("Metadata", {}).get(_TOKEN) != token:
                    raise
            except StoreUnavailable as error:
                # 409: another upload of this key was decided at the same moment; start over.
                if error.found != s3_errors.CONFLICT or attempt == _CONFLICTS - 1:
                    raise
                continue
            return

    def _send(self, upload: Upload, token: str, meter: Meter) -> None:
        target: dict[str, Any] = {"Bucket": self.settings.bucket, "Key": self._base + upload.key}
        size = upload.size
        if size <= self.part:
            data = one_part(upload)
            upload.check()
            self._client.put_object(
                **target, Body=data, ContentLength=size, IfNoneMatch="*", Metadata={_TOKEN: token}
            )
            meter.add(size)
            return
        started = self._client.create_multipart_upload(**target, Metadata={_TOKEN: token})["UploadId"]
        try:
            done: list[CompletedPartTypeDef] = []
            for number, part in enumerate(parts(upload.source, size, part_size(size, self.part)), start=1):
                answer = self._client.upload_part(**target, UploadId=started, PartNumber=number, Body=part)
                done.append({"ETag": answer["ETag"], "PartNumber": number})
                meter.add(len(part))
            upload.check()
            self._client.complete_multipart_upload(
                **target, UploadId=started, MultipartUpload={"Parts": done}, IfNoneMatch="*"
            )
        except BaseException:
            # Parts that are neither completed nor aborted are kept, and paid for, for ever.
            with contextlib.suppress(*s3_errors.sdk_errors()):
                self._client.abort_multipart_upload(**target, UploadId=started)
            raise

    @contextlib.contextmanager
    def _translated(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except s3_errors.sdk_errors() as error:
            raise s3_errors.translate(error, self.settings.bucket, key) from None


def _stored(key: str, found: Any) -> StoredObject:
    # "null" is the version of what was put while versioning was off or suspended: it can be overwritten.
    version = found.get("VersionId", "null")
    pin = f"etag:{found['ETag']}" if version == "null" else f"version:{version}"
    return StoredObject(key=key, size=found["ContentLength"], pin=pin)


def _other_range(key: str, offset: int, said: str) -> StoreError:
    return StoreError(
        f"S3 object {key}: other bytes than were asked for",
        expected=f"Content-Range: bytes {offset}-…",
        found=said or "no Content-Range",
        fix="Use an endpoint, and a proxy before it, that obey the header Range",
    )


def _open(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret and secret.get_secret_value() else None
