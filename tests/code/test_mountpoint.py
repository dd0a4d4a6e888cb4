"""What a code image holds where the model goes: by the layers themselves, each read once."""

import gzip
import io
import random
import tarfile

import pytest
import zstandard

from linkspan.code.mountpoint import mountpoint, read
from linkspan.errors import BuildFailed, DigestMismatch
from linkspan.ledger.values import Directory, MountPoint
from linkspan.nouns import sha256
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Image, Manifest, canonical, descriptor
from tests.registry.fake import FakeRegistry
from tests.registry.fixtures import OpenFake
from tests.registry.images import OCI_CONFIG, tar_of
from tests.services.registry import CountingProxy

FOLDER = "/app/model"


def found_in(*layers: bytes, folder: str = FOLDER) -> MountPoint:
    found = MountPoint()
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            found = found.below(read(tar, folder))
    return found


def test_directories_on_the_way_as_the_topmost_layer_has_them() -> None:
    low = tar_of({"./app/": b"", "app/main.py": b"x", "application/model/": b"", "tmp/": b""})
    high = tar_of({"app/": b"", "app/model/": b"", "app/model/sub/": b""}, mode=0o1770, uid=1000, gid=50)
    same = Directory(mode=0o1770, uid=1000, gid=50)
    assert found_in(low, high) == MountPoint(
        directories={"/app": same, "/app/model": same, "/app/model/sub": same}
    )
    assert found_in(high, low).directories["/app"] == Directory()
    assert found_in(low, folder="/model") == MountPoint()


@pytest.mark.parametrize(
    ("files", "obstacle"),
    [
        ({"app/model/labels.txt": b"x"}, "/app/model/labels.txt is there already"),
        ({"app/model": b"x"}, "/app/model is a file"),
        ({"app": b"x"}, "/app is a file"),
        ({"app/model/.wh.old": b""}, "a layer deletes /app/model/old"),
        ({"app/.wh.model": b""}, "a layer deletes /app/model"),
        ({".wh.app": b""}, "a layer deletes /app"),
        ({"app/.wh..wh..opq": b""}, "a layer deletes what is in /app"),
        ({"app/model/deep/.wh..wh..opq": b""}, "a layer deletes what is in /app/model/deep"),
        ({".wh..wh..opq": b""}, "a layer deletes what is in /"),
        ({"x/../app/model/f": b""}, "/app/model/f is there already"),
        ({"//app/model/f": b""}, "/app/model/f is there already"),
        ({"../../app/model/f": b""}, "/app/model/f is there already"),
        ({"app/model/caf\udce9": b""}, "'/app/model/caf\\udce9' is there already"),
        ({"app/model/caf\udce9/": b""}, "'/app/model/caf\\udce9' is there already"),
    ],
)
def test_what_must_not_be_there_is_named(files: dict[str, bytes], obstacle: str) -> None:
    assert found_in(tar_of(files)).obstacles == (obstacle,)
    assert found_in(tar_of({"app/": b""}), tar_of(files), tar_of({"app/": b""})).obstacles == (obstacle,)


def test_a_link_on_the_way_says_where_it_leads() -> None:
    link = tar_of({"app": b""}, type=tarfile.SYMTYPE, linkname="srv/app", size=0)
    assert found_in(link).obstacles == ("/app is a link to srv/app",)


def test_what_is_beside_it_is_nobodys_business() -> None:
    beside = {"app/.wh.models": b"", "app/models/x": b"", "app/main/.wh..wh..opq": b"", "model/x": b""}
    assert found_in(tar_of(beside)) == MountPoint()


def test_what_is_remembered_is_bounded() -> None:
    many = found_in(tar_of({f"app/model/{n}": b"" for n in range(5000)}))
    assert len(many.obstacles) == 3
    folders = found_in(tar_of({f"app/model/{n}/": b"" for n in range(5000)}))
    assert len(folders.directories) <= 1001
    assert folders.obstacles == ("/app/model has more than 1000 folders",)


def an_image(registry: Registry, *layers: bytes) -> Image:
    for data in layers:
        registry.push_blob(data)
    config = canonical({"rootfs": {"type": "layers", "diff_ids": [sha256(data) for data in layers]}})
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, config),
            "layers": [descriptor(media.OCI_LAYER, data) for data in layers],
        }
    )
    image = Image(Manifest(manifest, media.OCI_MANIFEST), config)
    registry.push_image(image)
    return image


def test_a_big_layer_is_read_once_however_it_is_compressed(
    app_registry: Registry, counting_proxy: CountingProxy
) -> None:
    tars = [tar_of({f"app/{n}": random.Random(n).randbytes(2 << 20)}) for n in range(3)]
    packed = (tars[0], gzip.compress(tars[1]), zstandard.compress(tars[2]))
    said: list[str] = []
    image = an_image(app_registry, *packed, tar_of({"app/": b""}))
    expected = MountPoint(directories={"/app": Directory()})
    assert mountpoint(app_registry, image, FOLDER, say=said.append) == expected

    counting_proxy.reset()
    assert mountpoint(app_registry, image, FOLDER, say=said.append) == expected
    assert counting_proxy.sent == 0
    assert len(counting_proxy.exchanges) == 2  # a manifest and its config
    # Another image on the same layers: only what is new is read.
    top = tar_of({"app/model/x": b"obstacle"})
    other = an_image(app_registry, *packed, top)
    counting_proxy.reset()
    assert mountpoint(app_registry, other, FOLDER, say=said.append).obstacles == (
        "/app/model/x is there already",
    )
    blobs = [each.path for each in counting_proxy.exchanges if each.method == "GET" and each.received > 2000]
    assert [path.rpartition("/")[2] for path in blobs] == [sha256(top)]
    assert len(app_registry.tags()) == 3 + 2  # the big layers and the images
    assert [line.split(",")[1] for line in said] == [" this once"] * 3


def corrupted(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data, mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


def headed(kind: bytes, size: int) -> bytes:
    """An extended header of so many bytes, before a file."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(size + -size % 512) + tar_of({"a": b"x"})


@pytest.mark.parametrize(
    "layer",
    [
        b"no tar at all" * 100,
        gzip.compress(b"no tar either" * 100),
        gzip.compress(tar_of({"a": b"x"}))[:-30],
        corrupted(tar_of({"a": random.Random(1).randbytes(50_000)})),
        gzip.compress(headed(tarfile.XHDTYPE, 5 << 20)),
        gzip.compress(headed(tarfile.GNUTYPE_LONGNAME, 5 << 20)),
        tar_of({"app/": b""}, uid=-5),
    ],
    ids=["neither", "compressed", "cut off", "corrupted", "huge header", "huge name", "odd owner"],
)
def test_a_layer_that_is_no_tar(app_registry: Registry, layer: bytes) -> None:
    with pytest.raises(BuildFailed, match=r"layer [0-9a-f]{7} of the code image cannot be read .*zstd"):
        mountpoint(app_registry, an_image(app_registry, layer), FOLDER, say=lambda _: None)


def test_bytes_that_are_not_the_layers_condemn_nothing(fake: FakeRegistry, open_fake: OpenFake) -> None:
    """A rotten transfer is the registry's fault, not the image's."""
    registry = open_fake()
    good = gzip.compress(tar_of({"a": b"x" * 5000}))
    image = an_image(registry, good)
    fake.blobs["team/app", sha256(good)] = good[:-50] + b"?" * 50
    with pytest.raises(DigestMismatch):
        mountpoint(registry, image, FOLDER, say=lambda _: None)


def test_a_layer_that_is_elsewhere(app_registry: Registry) -> None:
    image = an_image(app_registry, tar_of({"a": b"x"}))
    document = image.manifest.document
    document["layers"][0]["urls"] = ["https://example.com/layer"]
    foreign = Image(Manifest(canonical(document), media.OCI_MANIFEST), image.config)
    with pytest.raises(BuildFailed, match="is not in the registry"):
        mountpoint(app_registry, foreign, FOLDER, say=lambda _: None)


def test_a_registry_that_takes_no_notes_is_read_each_time(fake: FakeRegistry, open_fake: OpenFake) -> None:
    registry = open_fake()
    image = an_image(registry, tar_of({"app/": b""}))
    fake.fail("PUT", "manifests", 403, times=99)
    for _ in range(2):
        assert mountpoint(registry, image, FOLDER, say=lambda _: None).directories == {"/app": Directory()}


def test_an_empty_layer_holds_nothing(app_registry: Registry) -> None:
    empty = an_image(app_registry, gzip.compress(bytes(1024)))
    assert mountpoint(app_registry, empty, FOLDER, say=lambda _: None) == MountPoint()
