"""The layer is a tar that everybody reads, whose bytes follow from its files alone."""

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator

import pytest

from linkspan.errors import ConfigError, ModelCorrupt, ModelRefused
from linkspan.ledger.values import Directory
from linkspan.models.layer import _header, directories, layer_chunks, layer_size
from linkspan.nouns import ModelFile

Contents = dict[str, bytes]


def members(tar: bytes) -> dict[str, tuple[int, int, int]]:
    """Mode and owner of each entry, all of which are directories."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        found = opened.getmembers()
    assert all(member.isdir() for member in found)
    return {member.name: (member.mode, member.uid, member.gid) for member in found}


def test_directories_of_the_code_image_get_back_what_they_were() -> None:
    private, huge = Directory(mode=0o700, uid=1000, gid=50), Directory(uid=1_000_660_000, gid=1_000_660_001)
    found = {"/home/app": private, "/home/app/model/sub": huge, "/home/app/model": Directory()}
    # All that they are in too: an engine gives what has no entry whatever mode it likes.
    assert members(directories(found)) == {
        "home": (0o755, 0, 0),
        "home/app": (0o700, 1000, 50),
        "home/app/model": (0o755, 0, 0),
        "home/app/model/sub": (0o755, 1_000_660_000, 1_000_660_001),
    }
    assert members(directories({"/tmp": Directory(mode=0o1777)})) == {"tmp": (0o1777, 0, 0)}


def test_no_layer_of_directories_where_none_is_needed() -> None:
    assert directories({}) == b""
    assert directories({"/srv": Directory(), "/srv/model": Directory()}) == b""


def described(contents: Contents) -> list[ModelFile]:
    return [
        ModelFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    ]


def reader(contents: Contents, chunk: int = 1000) -> "OpenFrom":
    return OpenFrom(contents, chunk)


class OpenFrom:
    def __init__(self, contents: Contents, chunk: int) -> None:
        self.contents, self.chunk = contents, chunk

    def __call__(self, file: ModelFile) -> Iterator[bytes]:
        data = self.contents[file.path]
        return (data[at : at + self.chunk] for at in range(0, len(data), self.chunk))


def layer_of(contents: Contents, folder: str = "/model") -> bytes:
    files = described(contents)
    data = b"".join(layer_chunks(files, folder, reader(contents)))
    assert len(data) == layer_size(files, folder)
    return data


CONTENTS = {
    "model.onnx": b"weights" * 1000,
    "labels/zero.txt": b"0",
    "labels/deep/er/one.txt": b"1" * 512,
    "empty": b"",
    "ünï-cödé.bin": b"u",
    "a" * 100: b"just fits",
    "b" * 101: b"too long for ustar",
    "/".join(["long"] * 60) + "/end": b"long path",
}


@pytest.mark.parametrize("folder", ["/model", "/srv/app/model", "/" + "d" * 150])
def test_tarfile_reads_back_every_byte(folder: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_of(CONTENTS, folder))) as tar:
        members = tar.getmembers()
        found = {m.name: tar.extractfile(m).read() for m in members if m.isfile()}  # type: ignore[union-attr]
    assert found == {f"{folder[1:]}/{path}": data for path, data in CONTENTS.items()}
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
        assert member.mode == (0o755 if member.isdir() else 0o644)
    names = [member.name for member in members]
    assert names == sorted(names)
    assert {"/".join(name.split("/")[:-1]) for name in names} - {""} <= set(names), "all parents are there"


def test_random_sets_of_files_have_the_size_that_was_promised() -> None:
    dice = random.Random(7)
    for _ in range(100):
        contents = {
            "/".join(f"d{dice.randrange(3)}" for _ in range(dice.randrange(3)))
            + f"/f{n}"
            + "é" * dice.randrange(2): (dice.randbytes(dice.choice([0, 1, 511, 512, 513, 5000])))
            for n in range(dice.randrange(1, 8))
        }
        contents = {path.lstrip("/"): data for path, data in contents.items()}
        data = layer_of(contents, "/" + "m" * dice.randrange(1, 120))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert sum(member.isfile() for member in tar) == len(contents)


def test_the_bytes_never_change() -> None:
    # If this digest changes, every model is uploaded again and every release gets another digest.
    layer = layer_of({"b/model.onnx": b"weights", "a.txt": b"text"})
    golden = "e7be8f6315982fb1aeabd2c3c970f710a4e16ede91685d4e3e4bd5e224633f79"
    assert hashlib.sha256(layer).hexdigest() == golden


def test_neither_order_nor_chunking_matters() -> None:
    turned = dict(reversed(CONTENTS.items()))
    one = b"".join(layer_chunks(described(CONTENTS), "/model", reader(CONTENTS, 7)))
    two = b"".join(layer_chunks(described(turned), "/model", reader(turned, 10**6)))
    assert one == two


def test_a_file_of_more_than_8_gib_has_a_header_that_says_so() -> None:
    file = ModelFile(path="big", size=9 << 30, sha256="0" * 64)
    info = tarfile.TarFile(fileobj=io.BytesIO(_header("model/big", file) + bytes(1024))).next()
    assert info is not None
    assert info.size == 9 << 30
    assert layer_size([file], "/model") == 512 + 3 * 512 + (9 << 30) + 1024


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (b"weight", "expected 7 bytes, found 6 bytes"),
        (b"weights!", "expected 7 bytes, found 8 bytes or more"),
        (b"wEights", "expected SHA-256"),
        (b"", "found 0 bytes"),
    ],
)
def test_other_bytes_than_promised_are_refused_by_name(found: bytes, message: str) -> None:
    files = described({"dir/model.onnx": b"weights"})
    with pytest.raises(ModelCorrupt, match=r"dir/model\.onnx.*" + message):
        b"".join(layer_chunks(files, "/model", reader({"dir/model.onnx": found})))


def test_a_file_that_never_ends_is_stopped_at_once() -> None:
    read = 0

    def forever(_: ModelFile) -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 100

    with pytest.raises(ModelCorrupt):
        b"".join(layer_chunks(described({"a": b"x" * 150}), "/model", forever))
    assert read == 2


@pytest.mark.parametrize(
    "paths", [["a", "a"], ["a", "a/b"], ["a/b", "a"], [".wh.model"], ["x/.wh..wh..opq"], ["x/.wh.y/z"], []]
)
def test_names_that_an_image_cannot_hold(paths: list[str]) -> None:
    files = [ModelFile(path=path, size=0, sha256="0" * 64) for path in paths]
    with pytest.raises(ModelRefused):
        layer_size(files, "/model")


@pytest.mark.parametrize("folder", ["/", "", "model", "/a/../b", "/a//b", "/./a"])
def test_folders_that_cannot_be_one(folder: str) -> None:
    with pytest.raises(ConfigError, match="model path"):
        layer_size(described({"a": b""}), folder)


def test_a_trailing_slash_means_nothing() -> None:
    assert layer_of(CONTENTS, "/model/") == layer_of(CONTENTS, "/model")
