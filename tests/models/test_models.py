"""Publishing, pinning and reading models; over a folder, because stores are proven alike elsewhere."""

import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from linkspan.errors import (
    ConfigError,
    LinkspanError,
    ModelCorrupt,
    ModelNotFound,
    ObjectChanged,
    ObjectNotFound,
    StoreUnavailable,
    VersionExists,
)
from linkspan.models import (
    ModelStore,
    Pinned,
    PlainObjects,
    PublishedModels,
    identify,
    open_models,
    publish,
)
from linkspan.models.plain import parse_plain
from linkspan.nouns import Model, Signature, Tensor
from linkspan.progress import Progress
from linkspan.stores.base import StoredObject, Upload
from linkspan.stores.file import FileObjects, FileStoreSettings


class Watched(FileObjects):
    """A folder that remembers what was asked of it, and fails on demand."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[str] = []
        self.heads: list[str] = []
        self.lists = 0
        self.fail_put = ""

    def head(self, key: str) -> StoredObject:
        self.heads.append(key)
        return super().head(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self.lists += 1
        return super().list(prefix)

    def put(self, key: str, source: Path | bytes, *, progress: Progress | None = None) -> StoredObject:
        if self.fail_put and self.fail_put in key:
            raise StoreUnavailable(f"{key}: pulled the plug")
        self.puts.append(key)
        return super().put(key, source, progress=progress)

    def put_missing(
        self, uploads: Sequence[Upload], *, progress: Progress | None = None
    ) -> Sequence[StoredObject]:
        there = super().put_missing(uploads, progress=progress)
        self.puts += {upload.key for upload in uploads} - {obj.key for obj in there}
        return there


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def objects(root: Path) -> Watched:
    return Watched(root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "meta").mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"weights" * 1000)
    (made / "meta" / "labels.txt").write_text("cat\ndog\n")
    return made


def _read(store: ModelStore, pinned: Pinned) -> dict[str, bytes]:
    return {path: b"".join(store.read(pinned, path)) for path in pinned.objects}


def _publish(objects: FileObjects, folder: Path, content: bytes, version: str | None = None) -> Model:
    (folder / "model.onnx").write_bytes(content)
    return publish(objects, "digits", folder, version=version)


# Publishing


def test_what_was_published_is_pinned_and_read(objects: Watched, folder: Path) -> None:
    signature = Signature(
        inputs=(Tensor(name="x", dtype="float32", shape=(None, 64)),),
        outputs=(Tensor(name="y", dtype="float32", shape=(None, 10)),),
    )
    model = publish(
        objects,
        "digits",
        folder,
        metrics={"accuracy": 0.98},
        published_by="ada",
        signature=signature,
    )
    store = PublishedModels(objects, "digits")

    pinned = store.newest()

    assert pinned is not None
    assert pinned.model == model
    assert (pinned.version, model.version) == ("v1", "v1")
    assert (model.metrics, model.published_by, model.signature) == ({"accuracy": 0.98}, "ada", signature)
    assert model.published_at is not None
    assert _read(store, pinned) == {"model.onnx": b"weights" * 1000, "meta/labels.txt": b"cat\ndog\n"}
    assert pinned.size == model.size == 7008
    assert identify(store, pinned) is pinned
    assert Pinned.model_validate_json(pinned.model_dump_json()) == pinned


def test_files_come_first_and_the_manifest_last(objects: Watched, folder: Path) -> None:
    publish(objects, "digits", folder)
    assert objects.puts[-1] == "digits/versions/v1.json"
    assert all(key.startswith("digits/blobs/sha256/") for key in objects.puts[:-1])
    manifest = json.loads((b"".join(objects.read(objects.head(objects.puts[-1])))).decode())
    assert list(manifest) == sorted(manifest)


def test_a_publication_that_broke_is_not_there_and_can_be_done_again(objects: Watched, folder: Path) -> None:
    objects.fail_put = "versions/"
    with pytest.raises(StoreUnavailable):
        publish(objects, "digits", folder)
    assert PublishedModels(objects, "digits").newest() is None

    objects.fail_put = ""
    objects.puts.clear()
    assert publish(objects, "digits", folder).version == "v1"
    assert objects.puts == ["digits/versions/v1.json"], "the files are there already"


def test_an_unchanged_file_is_not_uploaded_again(objects: Watched, folder: Path) -> None:
    _publish(objects, folder, b"one")
    objects.puts.clear()
    passed: list[int] = []
    (folder / "model.onnx").write_bytes(b"second")
    model = publish(objects, "digits", folder, progress=passed.append)
    assert objects.puts == [f"digits/blobs/sha256/{sha256(b'second').hexdigest()}", "digits/versions/v2.json"]
    assert sum(passed) == model.size


def test_what_is_too_long_for_a_label_is_refused_before_the_upload(objects: Watched, folder: Path) -> None:
    metrics = {f"metric-{number:05}": 0.5 for number in range(5_000)}
    with pytest.raises(ConfigError, match=r"digits v1 cannot be published: .* metrics and signature take"):
        publish(objects, "digits", folder, metrics=metrics)
    assert objects.puts == []


def test_one_file_is_a_model(objects: Watched, folder: Path) -> None:
    model = publish(objects, "digits", folder / "model.onnx")
    assert list(PublishedModels(objects, "digits").get(model.version).objects) == ["model.onnx"]


def test_equal_files_under_two_paths(objects: Watched, folder: Path) -> None:
    (folder / "copy.txt").write_text("cat\ndog\n")
    publish(objects, "digits", folder)
    pinned = PublishedModels(objects, "digits").get("v1")
    assert _read(PublishedModels(objects, "digits"), pinned)["copy.txt"] == b"cat\ndog\n"


def test_the_digest_is_of_the_content_and_the_fingerprint_of_the_version(
    objects: Watched, folder: Path
) -> None:
    first, second = publish(objects, "digits", folder), publish(objects, "digits", folder)
    assert first.digest == second.digest
    store = PublishedModels(objects, "digits")
    assert store.get("v1").fingerprint != store.get("v2").fingerprint
    assert store.get("v1") == store.get("v1")


@pytest.mark.parametrize(
    ("there", "following"),
    [([], "v1"), (["v9"], "v10"), (["1.4.2"], "v2"), (["v9", "v10", "v2"], "v11"), (["1.0rc1"], "v2")],
)
def test_the_next_version(objects: Watched, folder: Path, there: Sequence[str], following: str) -> None:
    for version in there:
        publish(objects, "digits", folder, version=version, allow_older=True)
    assert publish(objects, "digits", folder).version == following


@pytest.mark.parametrize("version", ["v2", "2", "2.0", "v2.0.0"])
def test_a_version_that_is_there_is_refused_before_the_upload(
    objects: Watched, folder: Path, version: str
) -> None:
    _publish(objects, folder, b"one", "v2")
    objects.puts.clear()
    with pytest.raises(VersionExists, match="v2") as caught:
        _publish(objects, folder, b"other", version)
    assert caught.value.fix
    assert objects.puts == []


def test_an_older_version_is_refused_unless_it_is_meant(objects: Watched, folder: Path) -> None:
    _publish(objects, folder, b"nine", "v9")
    with pytest.raises(ConfigError, match=r"older than the newest, v9.*v10"):
        _publish(objects, folder, b"eight", "v8")
    assert publish(objects, "digits", folder, version="v8", allow_older=True).version == "v8"


@pytest.mark.parametrize("version", ["latest", "a/b", "", "v1 2", "../v1", "v" * 100])
def test_a_version_without_an_order_is_refused(objects: Watched, folder: Path, version: str) -> None:
    with pytest.raises(ConfigError, match="version"):
        publish(objects, "digits", folder, version=version)
    assert objects.puts == []


@pytest.mark.parametrize("name", ["Digits", "", "a/b", "x" * 41, "-a"])
def test_a_bad_name_is_refused(objects: Watched, folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="model name"):
        publish(objects, name, folder)


def test_a_metric_that_is_no_number_is_refused(objects: Watched, folder: Path) -> None:
    with pytest.raises(ConfigError, match="accuracy"):
        publish(objects, "digits", folder, metrics={"accuracy": float("nan")})


def test_a_store_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match="nowhere"):
        publish(FileObjects(tmp_path / "nowhere"), "digits", folder)


# What cannot be a model


def _nothing(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _empty_folder(folder: Path) -> None:
    _nothing(folder)
    folder.mkdir()


def _empty_files(folder: Path) -> None:
    _empty_folder(folder)
    (folder / "model.onnx").touch()


def _link_out(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "stolen").symlink_to(folder.parent / "secret")


def _broken_link(folder: Path) -> None:
    (folder / "broken").symlink_to(folder / "nothing")


def _linked_folder(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)


def _odd_name(folder: Path) -> None:
    (folder / "a\nb").write_text("x")


def _backslash(folder: Path) -> None:
    (folder / "a\\b").write_text("x")


def _socket(folder: Path) -> None:
    import os

    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_nothing, "is not there"),
        (_empty_folder, "holds no model.*an empty folder"),
        (_empty_files, "holds no model.*1 empty files"),
        (_link_out, "stolen is a link that leads out"),
        (_broken_link, "broken"),
        (_linked_folder, "loop is a link to a folder"),
        (_odd_name, "odd name"),
        (_backslash, "odd name"),
        (_socket, "pipe is not a file"),
    ],
)
def test_what_cannot_be_a_model_is_refused(objects: Watched, folder: Path, spoil: object, says: str) -> None:
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(ConfigError, match=says):
        publish(objects, "digits", folder)
    assert objects.puts == []


def test_a_link_inside_of_the_folder_is_its_file(objects: Watched, folder: Path) -> None:
    (folder / "latest.onnx").symlink_to("model.onnx")
    model = publish(objects, "digits", folder)
    assert "latest.onnx" in PublishedModels(objects, "digits").get(model.version).objects


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"WEIGHTS" * 1000), Path.unlink])
def test_a_file_that_changes_after_it_was_hashed_is_refused(
    root: Path, folder: Path, spoil: Callable[[Path], object]
) -> None:
    class Slow(Watched):
        def put_missing(
            self, uploads: Sequence[Upload], *, progress: Progress | None = None
        ) -> Sequence[StoredObject]:
            spoil(folder / "model.onnx")
            return super().put_missing(uploads, progress=progress)

    objects = Slow(root)
    with pytest.raises(ConfigError, match=r"model\.onnx changed while it was published"):
        publish(objects, "digits", folder)
    wrong = sha256(b"weights" * 1000).hexdigest()
    assert [obj.key for obj in objects.list("digits/") if wrong in obj.key] == []


def test_a_file_that_changes_while_it_is_uploaded_never_appears(objects: Watched, folder: Path) -> None:
    def change(_: int) -> None:
        (folder / "model.onnx").write_bytes(b"WEIGHTS" * 1000)

    with pytest.raises(ConfigError, match=r"model\.onnx changed while it was published"):
        publish(objects, "digits", folder / "model.onnx", progress=change)
    assert list(objects.list("")) == []


# Many publishers


def _compete(
    root: str, source: str, version: str | None, content: str, answers: object, start: object
) -> None:
    folder = Path(source) / content
    folder.mkdir()
    (folder / "model.onnx").write_text(content)
    start.wait()  # type: ignore[attr-defined]
    try:
        answer = publish(FileObjects(Path(root)), "digits", folder, version=version, published_by=content)
        answers.put((content, answer.version))  # type: ignore[attr-defined]
    except VersionExists as error:
        answers.put((content, str(error)))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_of_several_processes_one_publishes_a_version(root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers, start = context.Queue(), context.Barrier(4)
    processes = [
        context.Process(
            target=_compete, args=(str(root), str(tmp_path), "v1", f"publisher-{number}", answers, start)
        )
        for number in range(4)
    ]
    for process in processes:
        process.start()
    said = dict(answers.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(240)

    winners = [who for who, what in said.items() if what == "v1"]
    assert len(winners) == 1
    assert all("digits v1 cannot be published" in what for who, what in said.items() if who not in winners)
    store = PublishedModels(FileObjects(root), "digits")
    pinned = store.get("v1")
    assert pinned.model is not None
    assert pinned.model.published_by == winners[0]
    assert _read(store, pinned) == {"model.onnx": winners[0].encode()}


def test_publishers_of_the_same_files_share_them(root: Path, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / "many" / f"{number % 7}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "many" / f"{number % 7}" / f"{number}.bin").write_text(f"bytes of {number}")
    together = threading.Barrier(3)
    passed: list[list[int]] = [[], [], []]

    def one(number: int) -> Model:
        together.wait()
        return publish(FileObjects(root), "digits", tmp_path / "many", progress=passed[number].append)

    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(one, range(3)))

    assert [sum(each) for each in passed] == [models[0].size] * 3
    assert {model.digest for model in models} == {models[0].digest}
    store = PublishedModels(FileObjects(root), "digits")
    assert store.versions() == ["v3", "v2", "v1"]
    pinned = store.get("v3")
    read = _read(store, pinned)
    assert read["3/10.bin"] == b"bytes of 10"
    assert len(read) == 300
    assert len(list((root / "digits" / "blobs" / "sha256").iterdir())) == 300


def test_publishers_without_a_version_all_get_one(root: Path, tmp_path: Path) -> None:
    together = threading.Barrier(6)

    def one(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.onnx").write_text(str(number))
        together.wait()
        return publish(FileObjects(root), "digits", folder).version

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(one, range(6)))
    assert sorted(versions) == ["v1", "v2", "v3", "v4", "v5", "v6"]


# Published versions


def test_versions_newest_first_at_the_cost_of_one_listing(objects: Watched, folder: Path) -> None:
    for version in ("v9", "v10", "2.0rc1", "2.0", "2026.11.22"):
        publish(objects, "digits", folder, version=version, allow_older=True)
    publish(objects, "digits-2", folder)
    (objects.put("digits/versions/notes.json", b"{}"), objects.put("digits/versions/v77.txt", b""))
    assert PublishedModels(objects, "digits").versions() == ["2026.11.22", "v10", "v9", "2.0", "2.0rc1"]
    assert PublishedModels(objects, "nothing").versions() == []
    assert PublishedModels(objects, "nothing").newest() is None


def test_the_mark_is_another_one_whenever_there_is_something_to_see(objects: Watched, folder: Path) -> None:
    models = PublishedModels(objects, "digits")
    assert models.mark() == ""
    marks = []
    for version in ("v1", "v2"):
        publish(objects, "digits", folder, version=version)
        objects.lists = 0
        marks.append(models.mark())
        assert objects.lists == 1, "it has to be cheap"
        assert models.mark() == marks[-1]
    publish(objects, "digits-2", folder)
    assert models.mark() == marks[-1]
    assert marks[0] != marks[1]


def test_a_version_that_is_not_there(objects: Watched, folder: Path) -> None:
    _publish(objects, folder, b"one", "v3")
    with pytest.raises(ModelNotFound, match=r"digits has no version v4.*found v3") as caught:
        PublishedModels(objects, "digits").get("v4")
    assert caught.value.fix
    with pytest.raises(ModelNotFound, match="no version at all"):
        PublishedModels(objects, "other").get("v4")


def _blob(root: Path, content: bytes) -> Path:
    return root / "digits" / "blobs" / "sha256" / sha256(content).hexdigest()


def test_a_missing_file_is_found_before_a_byte_is_read(objects: Watched, root: Path, folder: Path) -> None:
    _publish(objects, folder, b"one")
    _blob(root, b"one").unlink()
    with pytest.raises(ModelNotFound, match=r"model\.onnx of model digits v1 is missing"):
        PublishedModels(objects, "digits").newest()


def test_a_truncated_file_is_found_before_a_byte_is_read(objects: Watched, root: Path, folder: Path) -> None:
    _publish(objects, folder, b"weights")
    _blob(root, b"weights").write_bytes(b"weig")
    with pytest.raises(ModelCorrupt, match=r"model\.onnx .*expected 7 bytes, found 4"):
        PublishedModels(objects, "digits").newest()
    with pytest.raises(ModelCorrupt, match="other bytes"):
        _publish(objects, folder, b"weights")


def test_wrong_bytes_are_found_while_they_are_read(objects: Watched, root: Path, folder: Path) -> None:
    _publish(objects, folder, b"weights")
    _blob(root, b"weights").write_bytes(b"WEIGHTS")
    store = PublishedModels(objects, "digits")
    pinned = store.newest()
    assert pinned is not None
    with pytest.raises(ModelCorrupt, match=r"model\.onnx of digits v1 .*does not hold the bytes"):
        list(store.read(pinned, "model.onnx"))


def test_a_file_overwritten_after_it_was_pinned(objects: Watched, root: Path, folder: Path) -> None:
    _publish(objects, folder, b"weights")
    store = PublishedModels(objects, "digits")
    pinned = store.get("v1")
    _blob(root, b"weights").write_bytes(b"WEIGHTS")
    with pytest.raises(ObjectChanged):
        list(store.read(pinned, "model.onnx"))


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (b"{", "not a version's manifest"),
        (b"", "not a version's manifest"),
        (b'{"name": "digits", "version": "v1", "files": [], "metrics": {"a": 1e999}}', "finite number"),
        (b'{"name":"digits","version":"v1"}', "files"),
        (b'{"name":"digits","version":"v1","files":[]}', "names no file"),
        (b'{"name":"digits","version":"v2","files":[]}', "another version"),
        (b'{"name":"cats","version":"v1","files":[]}', "another version"),
        (
            b'{"name":"digits","version":"v1","files":[{"path":"../x","size":1,"sha256":"%s"}]}'
            % (b"0" * 64),
            "plain relative path",
        ),
    ],
)
def test_a_broken_manifest_is_named(objects: Watched, manifest: bytes, says: str) -> None:
    objects.put("digits/versions/v1.json", manifest)
    with pytest.raises(ModelCorrupt, match=says) as caught:
        PublishedModels(objects, "digits").newest()
    assert "digits/versions/v1.json" in str(caught.value)


def test_a_file_that_the_model_does_not_have(objects: Watched, folder: Path) -> None:
    publish(objects, "digits", folder)
    store = PublishedModels(objects, "digits")
    with pytest.raises(ModelNotFound, match=r"other\.onnx"):
        list(store.read(store.get("v1"), "other.onnx"))


# Plain objects


@pytest.fixture
def plain(root: Path) -> ModelStore:
    (root / "meta").mkdir()
    (root / "ResNet_152.model").write_bytes(b"weights")
    (root / "meta" / "synset.txt").write_text("cat\ndog\n")
    entries = ["ResNet_152.model", "labels.txt=meta/synset.txt"]
    return open_models(FileStoreSettings(path=str(root), plain_objects=entries), "resnet")


def test_plain_objects_get_their_version_from_their_content(plain: ModelStore) -> None:
    pinned = plain.newest()
    assert pinned is not None
    assert (pinned.version, pinned.model, plain.versions()) == ("", None, [])

    known = identify(plain, pinned)

    assert known.model is not None
    assert known.version == known.model.version == "c" + known.model.digest[7:19]
    assert known.fingerprint == pinned.fingerprint
    assert _read(plain, known) == {"ResNet_152.model": b"weights", "labels.txt": b"cat\ndog\n"}
    assert plain.get(known.version) == known


def test_the_same_content_is_the_same_version_wherever_it_lies(plain: ModelStore, root: Path) -> None:
    def now() -> Pinned:
        pinned = plain.newest()
        assert pinned is not None
        return identify(plain, pinned)

    before = now()
    (root / "ResNet_152.model").unlink()
    (root / "ResNet_152.model").write_bytes(b"weights")
    again = now()
    (root / "ResNet_152.model").write_bytes(b"better!")
    better = now()

    assert again.fingerprint != before.fingerprint
    assert again.version == before.version
    assert better.version != before.version


def test_an_untouched_object_keeps_its_fingerprint(plain: ModelStore) -> None:
    first, second = plain.newest(), plain.newest()
    assert first == second


def test_the_mark_of_plain_objects(plain: ModelStore, root: Path) -> None:
    before = plain.mark()
    assert before
    assert plain.mark() == before
    (root / "ResNet_152.model").write_bytes(b"better")
    assert plain.mark() not in {before, ""}
    (root / "ResNet_152.model").unlink()
    assert plain.mark() == "", "half of them is nothing to look at yet"
    (root / "meta" / "synset.txt").unlink()
    assert plain.mark() == ""


def test_plain_objects_that_change_while_they_are_hashed(plain: ModelStore, root: Path) -> None:
    pinned = plain.newest()
    assert pinned is not None
    (root / "ResNet_152.model").write_bytes(b"better")
    with pytest.raises(ObjectChanged):
        identify(plain, pinned)


def test_no_plain_object_yet_is_nothing_and_half_of_them_is_an_error(plain: ModelStore, root: Path) -> None:
    (root / "meta" / "synset.txt").unlink()
    with pytest.raises(ModelNotFound, match=r"no meta/synset\.txt"):
        plain.newest()
    (root / "ResNet_152.model").unlink()
    assert plain.newest() is None
    with pytest.raises(ModelNotFound, match="found nothing"):
        plain.get("c123456789abc")


def test_an_old_plain_version_is_gone(plain: ModelStore) -> None:
    with pytest.raises(ModelNotFound, match="keep no history"):
        plain.get("c123456789abc")


def test_plain_objects_in_a_store_that_is_not_there(tmp_path: Path) -> None:
    store = PlainObjects(FileObjects(tmp_path / "nowhere"), "resnet", ["model.onnx"])
    with pytest.raises(ObjectNotFound, match="nowhere"):
        store.newest()


@pytest.mark.parametrize(
    ("entries", "plain_keys"),
    [
        (["a.onnx"], {"a.onnx": "a.onnx"}),
        (["deep/a.onnx"], {"a.onnx": "deep/a.onnx"}),
        (["x/y.onnx=deep/a=b.onnx"], {"x/y.onnx": "deep/a=b.onnx"}),
    ],
)
def test_plain_entries(entries: list[str], plain_keys: dict[str, str]) -> None:
    assert parse_plain(entries) == plain_keys


@pytest.mark.parametrize("entries", [[""], ["=a"], ["a="], ["../x=a"], ["folder/"], ["a/x", "b/x"]])
def test_plain_entries_that_cannot_be_read(entries: list[str]) -> None:
    with pytest.raises(LinkspanError):
        parse_plain(entries)
