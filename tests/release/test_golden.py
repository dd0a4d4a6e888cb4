"""The sample's release from fixed inputs, to the bit: layer, ModelPack manifest, labels, tags, release.

The constants were written down on 2026-11-30. One that changes means that everything users have is built,
packaged and released once more: then say so in CHANGELOG.md.
"""

import hashlib
import json
from datetime import UTC, datetime

from linkspan.config import parse_config
from linkspan.ledger.labels import code_labels
from linkspan.ledger.modelpack import modelpack
from linkspan.ledger.tags import layer_tag, pinned_tag, release_tag
from linkspan.models.layer import layer_chunks, layer_size
from linkspan.nouns import Commit, Layer, ModelFile, Release, sha256
from linkspan.registry import media
from linkspan.runtimes.base import Rollout, Service
from linkspan.runtimes.kubernetes.rollout import spec_of
from tests.registry.images import a_code_image, linked
from tests.values import model_of
from tests.values import release as a_release

TOML = b"""
name = "digits"
[model]
name = "digits"
path = "/model"
[test]
command = ["python", "-m", "unittest", "discover", "-s", "tests", "-t", "."]
timeout_seconds = 300
[serve]
port = 8080
ready_path = "/readyz"
ready_seconds = 120
request_seconds = 30
[smoke]
method = "POST"
path = "/score"
json = { instances = [[0, 0, 3, 16, 12, 12, 7, 0]] }
expect_status = 200
expect_json = { predictions = [{ label = "7" }] }
[environments.production]
replicas = 2
memory = "512m"
"""
FILES = {"digits.onnx": b"onnx" * 700, "labels.txt": b"0\n1\n2\n", "tokens/\u00e9.json": b"{}"}
GOLDEN = {
    "labels": "sha256:7e663ac2cf38c186f756c804a4368165e5ee69ba5cf3f43a39e5d0008ac77694",
    "layer": "sha256:8ed707e15b2d87a3bd658d749b17c5fc1594da9efbe6e2a588aeaf162474d177",
    "model": "sha256:5730bcfc5e43b7f9dc3e1d12ad3c69d7ab3b8f4344c28e376a6cf30617a419af",
    "release": "sha256:d825464d63b8d9b26eafbccf706032d2e3481fd4db1c71827c5fc0013e3ceac0",
    "tags": [
        "release-3fa9c1d-v3-d825464d63b8",
        "layer-c279486a59f6f7f23367528dfe2144c6",
        "pinned-47b5d8b4ce43f45666262c2b2399170d",
    ],
}
OBJECTS = ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"\u00e9": "1"}},)


def test_the_samples_release_is_what_it_always_was() -> None:
    config = parse_config(TOML, where="linkspan.toml")
    commit = Commit(
        sha="3fa9c1d" + "0" * 33,
        tree="b" * 40,
        author="Ada <ada@example.com>",
        subject="First",
        committed_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    )
    files = tuple(
        ModelFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in FILES.items()
    )
    model = model_of(
        files,
        name="digits",
        version="v3",
        metrics={"accuracy": 0.981},
        published_by="Bob",
        published_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    tar = b"".join(layer_chunks(files, config.model.path, lambda file: iter((FILES[file.path],))))
    assert len(tar) == layer_size(files, config.model.path)
    layer = Layer(digest=sha256(tar), diff_id=sha256(tar), size=len(tar), media_type=media.MODEL_LAYER)
    labels = code_labels(config.name, commit, config, OBJECTS)
    release_image = linked(a_code_image(labels=labels), model, layer, config.model.path)
    release = Release(app=config.name, commit=commit, model=model, image=release_image.digest)
    found = {
        "labels": sha256(json.dumps(labels, sort_keys=True).encode()),
        "layer": layer.digest,
        "model": modelpack(model, files, [layer], "fingerprint").digest,
        "release": release_image.digest,
        "tags": [
            release_tag(release),
            layer_tag(model.digest, config.model.path),
            pinned_tag("fingerprint", config.model.path),
        ],
    }
    assert found == GOLDEN


def test_what_a_cluster_remembers_of_a_rollout_is_what_it_always_was() -> None:
    """Else the first run after an upgrade would roll everything out once more."""
    rollout = Rollout(
        service=Service(app="digits", environment="production"),
        release=a_release(1, "v1"),
        image="r/x@sha256:1",
        cause="a push",
        objects=({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},),
    )
    remembered = "sha256:ee280a1cae023160f31cbda84c6e8db279fd9de8e9efbc9c3458833deda2a65b"
    assert spec_of(rollout, rollout.objects) == remembered
