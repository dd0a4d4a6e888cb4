"""The stores that the conformance suite runs against: each makes fresh places in a real service."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from pydantic import SecretStr

from linkspan.stores.azure import AzureObjects, AzureStoreSettings
from linkspan.stores.base import ObjectStore
from linkspan.stores.file import FileStoreSettings
from linkspan.stores.s3 import S3Objects, S3StoreSettings
from linkspan.stores.settings import StoreSettings
from tests.services.azurite import Azurite
from tests.services.moto import Moto

MIB = 1 << 20
# Small, so that a few megabytes take several requests and five keys take several pages.
RANGE = 2 * MIB
S3_PART = 5 * MIB  # S3's own minimum


class Remote(NamedTuple):
    """How to reach the same place badly."""

    port: int
    through: Callable[[int, int], ObjectStore]  # another port, with that many attempts
    wrong_key: Callable[[], ObjectStore]
    unreachable: Callable[[], ObjectStore]


class Place(NamedTuple):
    """One empty store. `overwrite` replaces an object as a stranger would, past our `put`."""

    kind: str
    store: ObjectStore
    elsewhere: Callable[[], ObjectStore]  # the same kind, but the container or folder is not there
    overwrite: Callable[[str, bytes], None]
    settings: Callable[[list[str]], StoreSettings]
    remote: Remote | None = None


class RemotePlace(NamedTuple):
    """A place that is reached over a network."""

    store: ObjectStore
    remote: Remote


class MakePlace(Protocol):
    def __call__(self, prefix: str = "") -> Place: ...


def file_places(request: pytest.FixtureRequest) -> MakePlace:
    folder: Path = request.getfixturevalue("tmp_path")

    def make(prefix: str = "") -> Place:
        root = folder / f"store-{uuid.uuid4().hex[:8]}" / prefix
        root.mkdir(parents=True)
        settings = FileStoreSettings(path=str(root))

        def overwrite(key: str, data: bytes) -> None:
            with (root / key).open("r+b") as file:
                file.truncate(0)
                file.write(data)

        return Place(
            "file",
            settings.objects(),
            lambda: FileStoreSettings(path=str(folder / "nowhere")).objects(),
            overwrite,
            lambda plain: FileStoreSettings(path=str(root), plain_objects=plain),
        )

    return make


def azure_places(request: pytest.FixtureRequest) -> MakePlace:
    azurite: Azurite = request.getfixturevalue("azurite")

    def make(prefix: str = "") -> Place:
        container = f"models-{uuid.uuid4().hex[:12]}"
        azurite.create_container(container)

        def settings(
            connection: str, name: str = container, plain: list[str] | None = None
        ) -> AzureStoreSettings:
            return AzureStoreSettings(
                container=name,
                prefix=prefix,
                connection_string=SecretStr(connection),
                plain_objects=plain or [],
            )

        def store(connection: str, name: str = container, attempts: int = 4) -> ObjectStore:
            made = settings(connection, name)
            return AzureObjects(made, block=MIB, range_size=RANGE, attempts=attempts, page=2)

        def overwrite(key: str, data: bytes) -> None:
            from azure.storage.blob import ContainerClient

            with ContainerClient.from_connection_string(azurite.connection_string(), container) as client:
                client.upload_blob(f"{prefix}/{key}".lstrip("/"), data, overwrite=True)

        wrong = azurite.connection_string(key="d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXk=")
        return Place(
            "azure",
            store(azurite.connection_string()),
            lambda: store(azurite.connection_string(), "not-there"),
            overwrite,
            lambda plain: settings(azurite.connection_string(), plain=plain),
            Remote(
                azurite.port,
                lambda port, attempts: store(azurite.connection_string(port=port), attempts=attempts),
                lambda: store(wrong),
                lambda: store(azurite.connection_string(port=1), attempts=1),
            ),
        )

    return make


def s3_places(request: pytest.FixtureRequest, *, versioned: bool = False) -> MakePlace:
    moto: Moto = request.getfixturevalue("moto_s3")

    def make(prefix: str = "") -> Place:
        bucket = f"models-{uuid.uuid4().hex[:12]}"
        moto.create_bucket(bucket, versioned=versioned)

        def settings(
            endpoint: str,
            name: str = bucket,
            secret: str = moto.secret_access_key,
            plain: list[str] | None = None,
        ) -> S3StoreSettings:
            return S3StoreSettings(
                bucket=name,
                prefix=prefix,
                endpoint_url=endpoint,
                access_key_id=moto.access_key_id,
                secret_access_key=SecretStr(secret),
                plain_objects=plain or [],
            )

        def store(made: S3StoreSettings, attempts: int = 4) -> ObjectStore:
            return S3Objects(made, part=S3_PART, range_size=RANGE, attempts=attempts, page=2)

        def overwrite(key: str, data: bytes) -> None:
            moto.client().put_object(Bucket=bucket, Key=f"{prefix}/{key}".lstrip("/"), Body=data)

        return Place(
            "s3-versioned" if versioned else "s3",
            store(settings(moto.endpoint)),
            lambda: store(settings(moto.endpoint, "not-there")),
            overwrite,
            lambda plain: settings(moto.endpoint, plain=plain),
            Remote(
                int(moto.endpoint.rpartition(":")[2]),
                lambda port, attempts: store(settings(f"http://127.0.0.1:{port}"), attempts),
                lambda: store(settings(moto.endpoint, secret="wrong")),
                lambda: store(settings("http://127.0.0.1:1"), attempts=1),
            ),
        )

    return make


PLACES: dict[str, Callable[[pytest.FixtureRequest], MakePlace]] = {
    "file": file_places,
    "azure": azure_places,
    "s3": s3_places,
    "s3-versioned": lambda request: s3_places(request, versioned=True),
}
