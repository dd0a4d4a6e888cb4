"""The linker: what it adds, what it leaves alone, what it refuses, and that everything can be read back."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest

from linkspan.config import AppConfig
from linkspan.errors import DigestMismatch, ModelCorrupt, ReleaseError
from linkspan.ledger.labels import code_labels, read_code_image
from linkspan.ledger.modelpack import modelpack, read_modelpack
from linkspan.ledger.values import Directory, MountPoint
from linkspan.nouns import Commit, Model, ModelFile, Signature, Tensor, listed, listing, sha256
from linkspan.registry import media
from linkspan.registry.media import Image, Manifest, canonical, descriptor
from linkspan.release.link import link
from tests.registry.images import (
    COMMIT,
    CONFIG,
    FILES,
    a_code_image,
    a_layer,
    a_model,
    linked,
    read_release,
    tar_of,
)
from tests.values import model_of

KINDS = {media.DOCKER_MANIFEST: media.DOCKER_LAYER, media.OCI_MANIFEST: media.OCI_LAYER}


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_is_the_code_image_and_one_layer_more(kind: str) -> None:
    code, layer = a_code_image(kind), a_layer()
    release = linked(code, a_model(), layer, "/model")
    release.verify()
    before, after = code.manifest.document, release.manifest.document
    assert after["layers"][:-1] == before["layers"]
    assert after["layers"][-1] == {"mediaType": KINDS[kind], "digest": layer.digest, "size": layer.size}
    assert release.manifest.media_type == after["mediaType"] == kind
    assert after["config"]["mediaType"] == before["config"]["mediaType"]

    old, new = json.loads(code.config), json.loads(release.config)
    assert new["rootfs"]["diff_ids"] == [*old["rootfs"]["diff_ids"], layer.diff_id]
    assert new["history"][:-1] == old["history"]
    assert new["history"][-1]["created"] == new["created"] == old["created"]
    assert new["variant-of-the-future"] == old["variant-of-the-future"]
    assert {key: new["config"][key] for key in ("Cmd", "User")} == {"Cmd": ["gunicorn"], "User": "app"}


def stacked(rng: Random) -> Image:
    """A code image of some layers, with some lines of its Dockerfile that make none."""
    layers = [tar_of({f"code/{n}": b"x"}) for n in range(rng.randint(1, 30))]
    history: list[dict[str, Any]] = [{"created_by": f"RUN {n}"} for n in range(len(layers))]
    for _ in range(rng.randint(0, 10)):
        history.insert(rng.randint(0, len(history)), {"created_by": "ENV", "empty_layer": True})
    image = a_code_image(history=history, rootfs={"type": "layers", "diff_ids": list(map(sha256, layers))})
    manifest = image.manifest.document
    manifest["layers"] = [
        descriptor(media.DOCKER_LAYER, data) | {"size": int(10 ** rng.uniform(1, 9))} for data in layers
    ]
    return Image(Manifest(canonical(manifest), image.manifest.media_type), image.config)


@pytest.mark.parametrize("seed", range(30))
def test_however_they_lie_all_lists_agree_and_the_code_keeps_its_order(seed: int) -> None:
    rng = Random(seed)
    image = stacked(rng)
    code, model = read_code_image(image), a_model()
    sizes = [int(10 ** rng.uniform(1, 10)) for _ in range(rng.randint(1, 20))]
    layers = [a_layer(b"%d" % n).model_copy(update={"size": size}) for n, size in enumerate(sizes)]
    restored = a_layer(b"directories") if seed % 2 else None
    found = MountPoint(directories={"/model": Directory(mode=0o700)})
    linked = link(image, code, model, layers, found=found, directories=restored)
    turned = link(image, code, model, layers[::-1], found=found, directories=restored)
    assert turned.image.digest == linked.image.digest, "whatever order the model's come in"

    listed = linked.image.manifest.document["layers"]
    config = json.loads(linked.image.config)
    before, ours = image.manifest.document["layers"], {layer.digest for layer in layers}
    added = ours | ({restored.digest} if restored else set())
    digests = [each["digest"] for each in listed]
    assert [each for each in listed if each["digest"] not in added] == before
    assert sorted(each for each in digests if each in added) == sorted(added)
    assert config["rootfs"]["diff_ids"] == digests, "none of them is compressed here"
    if restored:
        assert digests.index(restored.digest) == max(digests.index(each) for each in ours) + 1
    # The lines of history that make a layer are those of the layers, in their order.
    made = [each["created_by"] for each in config["history"] if not each.get("empty_layer")]
    names = {each["digest"]: f"RUN {n}" for n, each in enumerate(before)}
    assert [name.startswith("linkspan link") for name in made] == [each in added for each in digests]
    assert [name for name in made if name.startswith("RUN")] == [names[each["digest"]] for each in before]
    assert sum(each.layers for each in linked.strata) == len(listed)
    assert sum(each.size for each in linked.strata) == sum(each["size"] for each in listed)


def test_a_history_that_does_not_list_the_layers_is_no_obstacle() -> None:
    for history in (None, [], [{"created_by": "one"}] * 5):
        release = linked(a_code_image(history=history), a_model(), a_layer(), "/model")
        assert len(json.loads(release.config)["history"]) == len(history or []) + 1


def test_more_layers_than_an_engine_takes() -> None:
    image = a_code_image()
    layers = [a_layer(b"%d" % n) for n in range(125)]
    with pytest.raises(ReleaseError, match="at most 125, found 1 and 125"):
        link(image, read_code_image(image), a_model(), layers, found=MountPoint())


def test_labels_and_environment() -> None:
    model = a_model()
    config = json.loads(linked(a_code_image(), model, a_layer(), "/srv/model").config)["config"]
    assert config["Env"] == [
        "PATH=/bin",
        f"LINKSPAN_COMMIT={COMMIT.sha}",
        "LINKSPAN_MODEL_NAME=digits",
        "LINKSPAN_MODEL_VERSION=v12",
        f"LINKSPAN_MODEL_DIGEST={model.digest}",
        "LINKSPAN_MODEL_PATH=/srv/model",
    ]
    assert config["Labels"]["org.opencontainers.image.revision"] == COMMIT.sha
    assert Commit.model_validate_json(config["Labels"]["dev.linkspan.commit"]) == COMMIT
    assert Model.model_validate_json(config["Labels"]["dev.linkspan.model"]) == model


@pytest.mark.parametrize(
    ("kind", "golden"),
    [
        (media.DOCKER_MANIFEST, "2731cb0a38aa07d4052fb3dd6fcddfdc3814ce14719b9764a132debf58f6561b"),
        (media.OCI_MANIFEST, "706d4a6becf68a12a2f355feac175434b56265d7691f16ca4f5c15843d73cf4f"),
    ],
)
def test_the_same_pair_is_the_same_release_to_the_bit(kind: str, golden: str) -> None:
    # Constants: two machines, two versions of Python, two years must agree on them.
    labels = {
        "dev.linkspan.app": "digits",
        "dev.linkspan.commit": COMMIT.model_dump_json(),
        "dev.linkspan.config": '{"name": "digits", "model": {"name": "digits"}}',
    }
    code = a_code_image(kind, labels=labels)
    assert linked(code, a_model(), a_layer(), "/model").digest == "sha256:" + golden


def test_the_order_of_fields_in_the_code_image_does_not_matter() -> None:
    code = a_code_image()
    config = json.loads(code.config)
    turned = json.dumps(dict(reversed(config.items()))).encode()
    manifest = code.manifest.document
    manifest["config"] |= {"digest": sha256(turned), "size": len(turned)}
    other = Image(Manifest(json.dumps(manifest).encode(), code.manifest.media_type), turned)
    assert linked(other, a_model(), a_layer(), "/model") == linked(code, a_model(), a_layer(), "/model")


def test_another_model_or_commit_is_another_release() -> None:
    code = a_code_image()
    digests = {
        linked(code, a_model(), a_layer(), "/model").digest,
        linked(code, a_model(version="v13"), a_layer(), "/model").digest,
        linked(code, a_model(), a_layer(b"other"), "/model").digest,
        linked(code, a_model(), a_layer(), "/srv").digest,
    }
    assert len(digests) == 4


def test_an_index_is_refused() -> None:
    code = a_code_image()
    index = Image(Manifest(code.manifest.data, media.OCI_INDEX), code.config)
    with pytest.raises(ReleaseError, match="index"):
        linked(index, a_model(), a_layer(), "/model")


def test_an_image_without_our_labels_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"no code image of Linkspan.*no label 'dev\.linkspan\.commit'"):
        linked(a_code_image(labels={"maintainer": "ann"}), a_model(), a_layer(), "/model")
    with pytest.raises(ReleaseError, match="no code image"):
        linked(a_code_image(config={}), a_model(), a_layer(), "/model")


OBJECTS = (
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "é"}, "spec": {"a": [1, 2.5, None]}},
    {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"x": 'a "b"\n$c \\'}},
)  # fmt: skip


def test_the_apps_kubernetes_objects_come_with_the_release() -> None:
    code = a_code_image(labels=code_labels("digits", COMMIT, CONFIG, OBJECTS))
    read = read_code_image(code)
    assert (read.commit, read.config, read.objects) == (COMMIT, CONFIG, OBJECTS)
    assert read_code_image(linked(code, a_model(), a_layer(), "/model")).objects == OBJECTS


def test_an_app_without_kubernetes_objects_has_no_label_for_them() -> None:
    assert "dev.linkspan.manifests" not in code_labels("digits", COMMIT, CONFIG, ())
    assert read_code_image(a_code_image()).objects == ()


@pytest.mark.parametrize("label", ["{", "{}", "[1]", "7"])
def test_a_label_for_kubernetes_objects_that_is_not_ours(label: str) -> None:
    labels = code_labels("digits", COMMIT, CONFIG) | {"dev.linkspan.manifests": label}
    with pytest.raises(ReleaseError, match="is no code image of Linkspan"):
        read_code_image(a_code_image(labels=labels))


def test_a_config_in_the_label_that_cannot_be_read() -> None:
    labels = code_labels("digits", COMMIT, CONFIG) | {"dev.linkspan.config": '{"name": "digits"}'}
    with pytest.raises(ReleaseError, match=r"is no code image of Linkspan.*model: Field required"):
        read_code_image(a_code_image(labels=labels))


def test_a_linked_image_is_not_linked_again() -> None:
    release = linked(a_code_image(), a_model(), a_layer(), "/model")
    with pytest.raises(ReleaseError, match="holds a model already"):
        linked(release, a_model(version="v13"), a_layer(b"new"), "/model")


def test_an_empty_layer_is_refused() -> None:
    with pytest.raises(ReleaseError, match="is empty"):
        linked(a_code_image(), a_model(), a_layer(b""), "/model")


def test_a_model_that_the_app_does_not_take_is_refused() -> None:
    other = a_model().model_copy(update={"name": "letters"})
    with pytest.raises(ReleaseError, match="expected digits, found letters"):
        linked(a_code_image(), other, a_layer(), "/model")


def test_a_manifest_and_a_config_that_disagree_are_refused() -> None:
    code = a_code_image()
    with pytest.raises(DigestMismatch, match="config of manifest"):
        linked(replace(code, config=code.config + b" "), a_model(), a_layer(), "/model")
    with pytest.raises(ReleaseError, match="do not list the same layers"):
        linked(a_code_image(rootfs={"type": "layers", "diff_ids": []}), a_model(), a_layer(), "/model")


# ----- what is written can be read: random values, from a fixed seed


def _text(dice: Random) -> str:
    return "".join(dice.choice("aZ0 é\"'\\\n\t=<>&{}$%/\u2028😀") for _ in range(dice.randrange(1, 30)))


def _name(dice: Random) -> str:
    return "".join(dice.choice("abz09") for _ in range(dice.randrange(1, 20)))


def _commit(dice: Random) -> Commit:
    zone = timezone(timedelta(minutes=dice.randrange(-700, 700)))
    return Commit(
        sha=f"{dice.getrandbits(160):040x}",
        tree=f"{dice.getrandbits(256):064x}",
        author=_text(dice),
        subject=_text(dice),
        committed_at=datetime.fromtimestamp(dice.randrange(2**31), zone),
    )


def _model(dice: Random, name: str) -> Model:
    files = tuple(
        ModelFile(path=f"f{n}/x", size=dice.getrandbits(40), sha256=f"{dice.getrandbits(256):064x}")
        for n in range(dice.randrange(1, 5))
    )
    tensor = Tensor(name=_text(dice), dtype="float32", shape=(None, dice.randrange(9)))
    return model_of(
        files,
        name=name,
        version=f"v{dice.randrange(100)}",
        metrics={_text(dice): dice.random() * 10 ** dice.randrange(-9, 9)},
        signature=dice.choice([None, Signature(inputs=(tensor,), outputs=(tensor, tensor))]),
        published_by=_text(dice),
        published_at=dice.choice([None, datetime.fromtimestamp(dice.randrange(2**31), UTC)]),
    )


def _config(dice: Random) -> AppConfig:
    json_body: Any = dice.choice([None, {"a": [_text(dice), 1.5, None]}, [True], _text(dice)])
    return AppConfig.model_validate(
        {
            "name": _name(dice),
            "model": {"name": _name(dice), "path": "/" + _name(dice)},
            "test": {"command": [_text(dice)]},
            "smoke": {"json": json_body, "expect_json": json_body},
            "environments": {_name(dice): {"replicas": dice.randrange(1, 64), "env": {"X": _text(dice)}}},
        }
    )


@pytest.mark.parametrize("seed", range(50))
def test_everything_that_is_written_is_read_back(seed: int) -> None:
    dice = Random(seed)
    commit, config = _commit(dice), _config(dice)
    model = _model(dice, config.model.name)
    code = a_code_image(dice.choice(list(KINDS)), labels=code_labels(config.name, commit, config))
    read = read_code_image(code)
    assert (read.commit, read.config, read.digest) == (commit, config, code.digest)
    image = linked(code, model, a_layer(), config.model.path)
    release = read_release(image)
    assert (release.app, release.commit, release.model, release.image) == (
        config.name,
        commit,
        model,
        image.digest,
    )
    again = read_code_image(image)
    assert (again.commit, again.config) == (commit, config), "a release says how it wants to be rolled out"
    pack = modelpack(model, FILES, [a_layer()], "f1", {"note": "x"})
    pack.verify()
    assert read_modelpack(pack) == (model, (a_layer(),))
    assert pack.manifest.document["annotations"]["dev.linkspan.fingerprint"] == "f1"


# ----- the model as an artifact of its own


def test_modelpack_is_as_its_specification_says() -> None:
    pack = modelpack(a_model(), FILES, [a_layer()], "f1")
    manifest, config = pack.manifest.document, json.loads(pack.config)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        "application/vnd.cncf.model.weight.v1.tar",
        "application/vnd.cncf.model.doc.v1.raw",
    ]
    assert manifest["layers"][1]["digest"] == a_model().digest == sha256(listing(FILES))
    assert listed(listing(FILES[::-1])) == tuple(sorted(FILES, key=lambda file: file.sha256))
    # docs/config.md, "Properties": these three, all required, and nothing else.
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [a_layer().diff_id, a_model().digest]}
    assert config["config"] == {"format": "onnx"}
    assert config["descriptor"] == {
        "name": "digits",
        "version": "v12",
        "createdAt": "2026-11-01T00:00:00+00:00",
        "authors": ["bob"],
    }
    assert modelpack(a_model(), FILES, [a_layer()], "f1") == pack


def _broken(**changes: Any) -> Image:
    pack = modelpack(a_model(), FILES, [a_layer()], "f1")
    return Image(Manifest(canonical(pack.manifest.document | changes), media.OCI_MANIFEST), pack.config)


@pytest.mark.parametrize(
    "changes",
    [
        {"artifactType": None},
        {"annotations": {}},
        {"layers": []},
        {"layers": [{"digest": "x", "size": 1, "mediaType": media.MODEL_LAYER}]},
        {"layers": [{"digest": sha256(b"zip"), "size": 1, "mediaType": media.MODEL_LAYER + "+gzip"}]},
    ],
)
def test_a_foreign_artifact_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelCorrupt, match="model artifact sha256"):
        read_modelpack(_broken(**changes))
