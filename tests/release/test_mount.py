"""The other linker: a release that names the image of its model, and holds the code's layers alone."""

import json
from typing import Any

import pytest

from linkspan.errors import ReleaseError
from linkspan.ledger.labels import MOUNTED, labels_of, mounted_by, read_code_image
from linkspan.ledger.values import MountPoint
from linkspan.nouns import Layer, Model
from linkspan.registry import media
from linkspan.registry.media import Image
from linkspan.release.link import Linked
from linkspan.release.mount import mount
from tests.registry.images import a_code_image, a_layer, a_model, read_release

LAYERS = [a_layer(b"weights" * 100), a_layer(b"tokenizer")]


def made(
    image: Image | None = None, model: Model | None = None, layers: list[Layer] = LAYERS, **options: Any
) -> Linked:
    image = image or a_code_image()
    return mount(
        image, read_code_image(image), model or a_model(), layers, **{"found": MountPoint(), **options}
    )


def model_image_of(linked: Linked) -> Image:
    assert linked.mounted is not None
    return linked.mounted


@pytest.mark.parametrize("kind", [media.DOCKER_MANIFEST, media.OCI_MANIFEST])
def test_a_release_has_the_codes_layers_and_names_the_models_image(kind: str) -> None:
    code = a_code_image(kind)
    linked = made(code)
    release, model = linked.image, model_image_of(linked)
    release.verify()
    assert release.manifest.media_type == kind
    assert release.manifest.document["layers"] == code.manifest.document["layers"]
    assert mounted_by(release) == model.digest
    assert mounted_by(code) is None
    before, after = json.loads(code.config), json.loads(release.config)
    assert after["rootfs"] == before["rootfs"]
    *history, last = after["history"]
    assert history == before["history"]
    assert last["created_by"] == "linkspan mount digits v12 /model"
    assert last["empty_layer"], "else engines look for one layer more"
    assert "LINKSPAN_MODEL_VERSION=v12" in after["config"]["Env"]
    assert read_release(release).model == a_model()
    assert [(each.half, each.layers) for each in linked.strata] == [("code", 1)]


def test_the_models_image_is_a_plain_one_for_the_codes_platform() -> None:
    image = model_image_of(made(a_code_image(architecture="arm64", variant="v8")))
    image.verify()
    config = json.loads(image.config)
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm64", "v8")
    listed = image.manifest.document["layers"]
    assert listed == [
        {"mediaType": media.OCI_LAYER, "digest": layer.digest, "size": layer.size} for layer in LAYERS
    ]
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in LAYERS]
    assert len(config["history"]) == len(LAYERS)
    assert "artifactType" not in image.manifest.document


def test_what_is_the_same_has_the_same_digest_and_nothing_else() -> None:
    first = made()
    assert made(layers=LAYERS[::-1]) == first
    later = made(model=a_model(version="v13"))
    assert model_image_of(later).digest == model_image_of(first).digest, "the content is what counts"
    assert later.image.digest != first.image.digest
    other = made(layers=[a_layer(b"other")])
    assert model_image_of(other).digest != model_image_of(first).digest
    assert other.image.digest != first.image.digest, "one digest names both halves"


def test_the_digests_stay_what_they_are() -> None:
    """Constants: two machines, two versions of Python, two years must agree on them."""
    labels = {
        "dev.linkspan.app": "digits",
        "dev.linkspan.commit": read_code_image(a_code_image()).commit.model_dump_json(),
        "dev.linkspan.config": '{"name": "digits", "model": {"name": "digits"}}',
    }
    linked = made(a_code_image(labels=labels))
    model = "sha256:bc7913f0b0eb786911ee1353a58b20ff6e9b81532befaac28b6ae5f9b672c48f"
    release = "sha256:2cd5fe3c53d8da6bed9fb0e8d33c44f94070355fe093799bcc9d417e0620529e"
    assert (model_image_of(linked).digest, linked.image.digest) == (model, release)


def test_what_cannot_be_linked_cannot_be_mounted_either() -> None:
    with pytest.raises(ReleaseError, match="has no room for the model at /model"):
        made(found=MountPoint(obstacles=("/model/x is there already",)))
    with pytest.raises(ReleaseError, match="holds a model already"):
        made(made().image)
    with pytest.raises(ReleaseError, match="is empty"):
        made(layers=[a_layer(b"")])


@pytest.mark.parametrize("label", ["", "latest", "sha256:123", f"evil.example/x@sha256:{'a' * 64}"])
def test_only_a_digest_is_ever_mounted(label: str) -> None:
    release = made().image
    labels = labels_of(release) | {MOUNTED: label}
    with pytest.raises(ReleaseError, match="mounts something else than an image by digest"):
        mounted_by(a_code_image(labels=labels))
