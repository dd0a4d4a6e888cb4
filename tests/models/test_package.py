"""From a store to a layer in the registry, with both of them real: what is read, pushed, kept and refused."""

import hashlib
import io
import resource
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from linkspan.errors import (
    ConfigError,
    DigestMismatch,
    ModelCorrupt,
    ModelRefused,
    RegistryUnavailable,
    StoreError,
)
from linkspan.ledger.modelpack import files_of, read_modelpack
from linkspan.ledger.parts import remember_part
from linkspan.ledger.tags import layer_tag, model_tag, part_tag, pinned_tag, rejection_tag
from linkspan.models import Pinned, open_models, publish
from linkspan.models.layer import layer_chunks, layer_size
from linkspan.models.package import held, package, packaged_already, packaged_content, packaged_version
from linkspan.models.parts import parts
from linkspan.nouns import Layer, ModelFile, content_of, sha256
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.stores.file import FileStoreSettings
from tests.onnx_models import linear_model
from tests.registry.fake import FakeRegistry
from tests.registry.fixtures import OpenFake
from tests.services.registry import CountingProxy

FOLDER = "/model"


@pytest.fixture
def store(tmp_path: Path) -> FileStoreSettings:
    (tmp_path / "store").mkdir()
    return FileStoreSettings(path=str(tmp_path / "store"))


def trained(folder: Path, *, side: int = 300, labels: str = "zero one") -> Path:
    """A model's folder of about `4 * side²` bytes."""
    linear_model(side, side, folder / "model.onnx")
    (folder / "labels.txt").write_text(labels)
    return folder


def pin(store: FileStoreSettings, folder: Path, version: str | None = None) -> Pinned:
    """Publish the folder and pin it."""
    model = publish(store.objects(), "digits", folder, version=version)
    return open_models(store, "digits").get(model.version)


def packed(store: FileStoreSettings, registry: Registry, pinned: Pinned, folder: str = FOLDER) -> list[str]:
    """What was said while it was packaged."""
    said: list[str] = []
    models = open_models(store, "digits")
    package(models, registry, pinned, folder, say=said.append, progress=lambda _: None)
    return said


def files_in(registry: Registry, layer: Layer) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(registry.blob(layer.digest))) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name.lstrip("./"): file.read() for name, file in files.items() if file}


def lose_files(store: FileStoreSettings) -> None:
    """Whoever reads a file of the store now fails."""
    for path in Path(store.path).glob("digits/blobs/sha256/*"):
        path.unlink()


def test_the_layer_holds_the_files_below_the_folder(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    folder = trained(tmp_path / "trained")
    pinned = pin(store, folder)
    assert packaged_already(app_registry, pinned, FOLDER) is None
    said = packed(store, app_registry, pinned)
    assert any("Opened it and scored a sample" in line for line in said)

    found = packaged_already(app_registry, pinned, FOLDER)
    assert found is not None
    assert found.model == pinned.model
    assert pinned.model is not None
    names = (
        model_tag("digits", "v1"),
        layer_tag(pinned.model.digest, FOLDER),
        pinned_tag(pinned.fingerprint, FOLDER),
    )
    assert {app_registry.exists(name) for name in names} == {found.manifest}
    model, layers = read_modelpack(app_registry.image(found.manifest))
    assert (model, {layer.media_type for layer in layers}) == (pinned.model, {media.MODEL_LAYER})
    content = [files_in(app_registry, layer) for layer in layers]
    assert [sorted(files) for files in content] == [["model/labels.txt"], ["model/model.onnx"]]
    assert content[0] | content[1] == {
        "model/labels.txt": (folder / "labels.txt").read_bytes(),
        "model/model.onnx": (folder / "model.onnx").read_bytes(),
    }


def test_what_is_there_is_not_read_again(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry, counting_proxy: CountingProxy
) -> None:
    folder = trained(tmp_path / "trained")
    first = pin(store, folder)
    packed(store, app_registry, first)
    second = pin(store, folder)
    assert second.version == "v2"
    lose_files(store)

    counting_proxy.reset()
    assert packaged_already(app_registry, first, FOLDER) is not None
    assert counting_proxy.sent == 0
    said = packed(store, app_registry, second)  # the same bytes under another version
    assert "The same bytes were validated and packaged before; nothing is read" in said
    assert counting_proxy.sent < 64_000
    found = packaged_version(app_registry, "digits", "v2", FOLDER)
    assert found is not None
    assert second.model is not None
    assert found.model.digest == second.model.digest
    assert packaged_content(app_registry, second.model, FOLDER) is not None
    with pytest.raises(StoreError):
        packed(store, app_registry, second, "/elsewhere")  # proves that it would have noticed


def test_a_small_file_that_changes_moves_alone(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry, counting_proxy: CountingProxy
) -> None:
    folder = trained(tmp_path / "trained", side=500)
    packed(store, app_registry, pin(store, folder))
    (folder / "labels.txt").write_text("one two three")
    counting_proxy.reset()
    said = packed(store, app_registry, pin(store, folder))
    assert counting_proxy.sent < 32_000
    assert any("(model.onnx) is in the registry already" in line for line in said)
    # The whole of the new model was opened all the same: labels and weights never met before.
    assert any("Opened it and scored a sample" in line for line in said)


def test_weights_that_are_there_are_not_read_where_nothing_is_opened(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"torch" * 100_000)
    packed(store, app_registry, pin(store, folder))
    lose_files(store)
    (folder / "labels.txt").write_text("one")
    pinned = pin(store, folder)  # puts both there again
    blob = Path(store.path) / pinned.objects["weights.pt"].key
    blob.chmod(0o644)
    blob.write_bytes(b"other" * 100_000)
    pinned = open_models(store, "digits").get(pinned.version)
    packed(store, app_registry, pinned)
    assert packaged_already(app_registry, pinned, FOLDER) is not None


def test_a_refused_model_leaves_no_layer_of_several(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    folder = trained(tmp_path / "trained")
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 100_000)
    (folder / "zz.onnx").write_bytes(b"not an ONNX file" * 10_000)
    pinned = pin(store, folder)
    with pytest.raises(ModelRefused, match=r"zz\.onnx"):
        packed(store, app_registry, pinned)
    for part in parts(pinned.files):
        assert app_registry.blob_size(layer_digest(part, folder)) is None


def test_of_many_small_files_only_their_list_grows(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry, counting_proxy: CountingProxy
) -> None:
    """Labels, manifests, events and histories are as big for 5,000 files as for two."""
    folder = tmp_path / "trained"
    for number in range(5_000):
        path = folder / f"shard-{number % 100:02}" / f"{number:05}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}")
    pinned = pin(store, folder)
    packed(store, app_registry, pinned)
    found = packaged_already(app_registry, pinned, FOLDER)
    assert found is not None
    assert found.model == pinned.model
    assert found.model.file_count == 5_000
    assert len(found.model_dump_json()) < 1000
    image = app_registry.image(found.manifest)
    assert len(image.manifest.data) < 8000
    assert files_of(app_registry, found.model) == tuple(sorted(pinned.files, key=lambda file: file.sha256))
    # One more moves one group of them.
    size = sum(layer.size for layer in read_modelpack(image)[1])
    (folder / "one-more.json").write_text("one more")
    counting_proxy.reset()
    packed(store, app_registry, pin(store, folder))
    listing_size = 5_000 * 90
    assert counting_proxy.sent < size / 8 * 1.2 + listing_size


def test_an_outage_in_the_last_layer_costs_no_other(
    tmp_path: Path, store: FileStoreSettings, fake: FakeRegistry, open_fake: OpenFake
) -> None:
    """Neither those that were sent before it, nor those that were committed."""
    folder = tmp_path / "trained"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 500_000)
    pinned = pin(store, folder)
    for method, before in (("PATCH", 3), ("PUT", 2)):
        left = [before]

        def away(_: object, left: list[int] = left) -> bool:
            left[0] -= 1
            if left[0] < 0:
                for each in ("PATCH", "PUT", "GET", "HEAD", "POST"):
                    fake.fail(each, "blobs", 503, times=999)
            return False

        fake._add(method, "blobs/uploads", 999, away)
        with pytest.raises(RegistryUnavailable):
            packed(store, open_fake(), pinned)
        fake.ways.faults.clear()
    client = open_fake()
    packed(store, client, pinned)
    assert client.sent < 600_000, "the layer that was under way, and notes"
    assert packaged_already(client, pinned, FOLDER) is not None


def test_a_part_that_somebody_else_put_there_is_not_believed(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    folder = trained(tmp_path / "trained", side=500)
    pinned = pin(store, folder)
    [_, weights] = parts(pinned.files)
    tag, size = part_tag(content_of(weights), FOLDER), layer_size(weights, FOLDER)
    other = bytes(size)
    app_registry.push_blob(other)
    layer = Layer(digest=sha256(other), diff_id=sha256(other), size=size, media_type=media.MODEL_LAYER)
    remember_part(app_registry, tag, layer)
    with pytest.raises(DigestMismatch, match="Delete that tag"):
        packed(store, app_registry, pinned)


def test_a_part_whose_layer_is_gone_is_pushed_again(
    tmp_path: Path, store: FileStoreSettings, fake: FakeRegistry, open_fake: OpenFake
) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"torch" * 100_000)
    client = open_fake()
    packed(store, client, pin(store, folder))
    for key in [key for key, data in fake.blobs.items() if len(data) > 100_000]:
        del fake.blobs[key]  # a clean-up that went wrong
    (folder / "labels.txt").write_text("one")
    pinned = pin(store, folder)
    packed(store, client, pinned)
    assert packaged_already(client, pinned, FOLDER) is not None


def test_a_full_disk_for_what_must_be_opened_is_named(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    pinned = pin(store, trained(tmp_path / "trained", side=1000))
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, most[1]))  # as a full disk: EFBIG for ENOSPC
    try:
        with pytest.raises(ConfigError, match=r"model\.onnx cannot be written .*TMPDIR"):
            packed(store, app_registry, pinned)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)


def test_another_folder_is_another_layer(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    pinned = pin(store, trained(tmp_path / "trained"))
    packed(store, app_registry, pinned)
    assert packaged_already(app_registry, pinned, "/srv/models") is None
    packed(store, app_registry, pinned, "/srv/models")
    here = packaged_already(app_registry, pinned, FOLDER)
    there = packaged_already(app_registry, pinned, "/srv/models")
    assert here
    assert there
    assert (
        read_modelpack(app_registry.image(here.manifest))[1]
        != read_modelpack(app_registry.image(there.manifest))[1]
    )


def test_a_refused_model_leaves_nothing_and_is_remembered(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    folder = trained(tmp_path / "trained")
    (folder / "model.onnx").write_bytes(b"not an ONNX file" * 100)
    pinned = pin(store, folder)
    assert held(app_registry, pinned, on_purpose=False) == ""
    with pytest.raises(ModelRefused, match=r"model\.onnx"):
        packed(store, app_registry, pinned)
    assert app_registry.tags() == [rejection_tag(f"model {pinned.fingerprint}")]
    for part in parts(pinned.files):
        assert app_registry.blob_size(layer_digest(part, folder)) is None

    why = held(app_registry, pinned, on_purpose=False)
    assert why.startswith("model digits v1 is held back: ")
    assert "`linkspan deploy`" in why
    assert held(app_registry, pinned, on_purpose=True) == ""
    assert held(app_registry, pinned, on_purpose=False) == ""


def test_bytes_that_are_not_those_of_the_manifest(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    folder = trained(tmp_path / "trained")
    pinned = pin(store, folder)
    blob = Path(store.path) / pinned.objects["labels.txt"].key
    changed = bytes(reversed(blob.read_bytes()))
    blob.chmod(0o644)
    blob.write_bytes(changed)
    pinned = open_models(store, "digits").get("v1")  # as a run would find it
    with pytest.raises(ModelCorrupt, match=r"labels\.txt"):
        packed(store, app_registry, pinned)
    assert packaged_already(app_registry, pinned, FOLDER) is None
    assert "held back" in held(app_registry, pinned, on_purpose=False)


def test_without_an_onnx_file_the_smoke_test_judges(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "weights.pt").write_bytes(b"torch" * 1000)
    pinned = pin(store, tmp_path / "trained")
    assert "No ONNX file in it, so the smoke test will be the judge" in packed(store, app_registry, pinned)
    assert packaged_already(app_registry, pinned, FOLDER) is not None


def test_plain_objects_get_their_version_from_their_content(
    tmp_path: Path, store: FileStoreSettings, app_registry: Registry
) -> None:
    trained(Path(store.path))
    plain = store.model_copy(update={"plain_objects": ["model.onnx", "labels.txt"]})
    before = open_models(plain, "digits").newest()
    assert before is not None
    packed(plain, app_registry, before)
    found = packaged_already(app_registry, before, FOLDER)
    assert found
    assert found.model.version.startswith("c")
    (Path(store.path) / "labels.txt").write_text("one two")
    after = open_models(plain, "digits").newest()
    assert after is not None
    assert packaged_already(app_registry, after, FOLDER) is None
    packed(plain, app_registry, after)
    newer = packaged_already(app_registry, after, FOLDER)
    assert newer
    assert newer.model.version != found.model.version


def layer_digest(files: Sequence[ModelFile], folder: Path) -> str:
    digest = hashlib.sha256()
    for chunk in layer_chunks(files, FOLDER, lambda file: iter([(folder / file.path).read_bytes()])):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
