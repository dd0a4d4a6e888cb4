"""Publishing, pinning and plain objects over every kind of store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from linkspan.errors import ObjectChanged, VersionExists
from linkspan.models import PublishedModels, identify, open_models, publish
from tests.stores.places import MIB, MakePlace, Place


def test_a_model_goes_in_and_comes_out(make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place("team a/models")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights" * MIB)
    (folder / "labels ü.txt").write_text("cat\n")

    first = publish(place.store, "digits", folder)
    (folder / "labels ü.txt").write_text("dog\n")
    publish(place.store, "digits", folder)

    store = open_models(place.settings([]), "digits")
    pinned = store.newest()
    assert pinned is not None
    assert store.versions() == ["v2", "v1"]
    assert b"".join(store.read(pinned, "labels ü.txt")) == b"dog\n"
    assert sum(len(chunk) for chunk in store.read(pinned, "model.onnx")) == 7 * MIB
    assert store.get("v1").model == first
    assert store.url.endswith("team a/models/digits") or store.url.endswith("team%20a/models/digits")


def test_of_concurrent_publishers_one_wins_and_its_bytes_stay(place: Place, tmp_path: Path) -> None:
    count = 5
    together = threading.Barrier(count)

    def one(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.onnx").write_text(f"weights of {number}")
        (folder / "labels.txt").write_text("the same for all")
        together.wait()
        try:
            publish(place.store, "digits", folder, version="v1", published_by=str(number))
        except VersionExists as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(count) as pool:
        said = list(pool.map(one, range(count)))

    assert said.count("won") == 1
    assert all("v1 cannot be published" in each for each in said if each != "won")
    store = PublishedModels(place.store, "digits")
    pinned = store.get("v1")
    winner = said.index("won")
    assert pinned.model is not None
    assert pinned.model.published_by == str(winner)
    assert b"".join(store.read(pinned, "model.onnx")) == f"weights of {winner}".encode()


def test_plain_objects(place: Place) -> None:
    place.store.put("ResNet_152.model", b"weights")
    place.store.put("meta/synset.txt", b"cat\n")
    store = open_models(place.settings(["ResNet_152.model", "labels.txt=meta/synset.txt"]), "resnet")
    pinned = store.newest()
    assert pinned is not None
    known = identify(store, pinned)

    place.overwrite("ResNet_152.model", b"better!")
    newer = store.newest()

    assert newer is not None
    assert newer.fingerprint != pinned.fingerprint
    assert identify(store, newer).version != known.version
    if place.kind == "s3-versioned":
        assert b"".join(store.read(known, "ResNet_152.model")) == b"weights"
    else:
        with pytest.raises(ObjectChanged):
            list(store.read(known, "ResNet_152.model"))
