"""A registry whose tags never move (ECR): what Linkspan puts there is put once."""

import math

import pytest

from linkspan.errors import RegistryError, SmokeFailed
from linkspan.ledger import series
from linkspan.ledger.tags import rejection_tag
from linkspan.ledger.verdicts import note, pardon, reject, rejection
from linkspan.nouns import Digest
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import canonical, descriptor
from tests.registry.fake import FakeRegistry, Handler
from tests.registry.fixtures import OpenFake


@pytest.fixture
def repo(fake: FakeRegistry, open_fake: OpenFake) -> Registry:
    fake.ways.immutable_tags = True
    return open_fake()


def manifest(text: str) -> bytes:
    empty = descriptor(media.OCI_EMPTY, b"{}")
    fields = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "config": empty, "layers": [empty]}
    return canonical({**fields, "annotations": {"text": text}})


def pushed(repo: Registry, text: str) -> Digest:
    repo.push_blob(b"{}")
    return repo.push_manifest(manifest(text), media.OCI_MANIFEST)


def test_it_refuses_what_ecr_refuses(repo: Registry) -> None:
    digest = pushed(repo, "a")
    repo.tag(digest, "t")
    for again in (digest, pushed(repo, "b")):
        with pytest.raises(RegistryError, match=r"TAG_INVALID .*'t' already exists .* immutable"):
            repo.tag(again, "t")


def test_a_tag_is_put_once(repo: Registry, fake: FakeRegistry) -> None:
    one, two = pushed(repo, "a"), pushed(repo, "b")
    assert [series.once(repo, each, "t") for each in (one, one, two)] == [one] * 3
    assert fake.count("PUT", "manifests/t$") == 1


def test_the_last_of_a_series_counts(repo: Registry, fake: FakeRegistry) -> None:
    assert series.last(repo, "t") == (0, None)
    for number in range(1, 41):
        digest = pushed(repo, str(number))
        assert series.add(repo, "t", digest) == series.nth("t", number)
        asked = fake.count("HEAD")
        assert series.last(repo, "t") == (number, digest)
        assert fake.count("HEAD") - asked <= 2 + 2 * math.log2(number)
        puts = fake.count("PUT", "manifests/t")
        assert series.add(repo, "t", digest) == series.nth("t", number), "it is the last already"
        assert fake.count("PUT", "manifests/t") == puts == number
        assert series.last_of(frozenset(repo.tags()), "t") == series.nth("t", number)
    assert series.last_of(["t__2", "u"], "t") is None
    assert len(repo.tags()) == 40


def test_who_is_second_takes_the_next_number(repo: Registry, fake: FakeRegistry) -> None:
    theirs, ours = pushed(repo, "theirs"), pushed(repo, "ours")

    def quicker(handler: Handler) -> bool:
        if handler.command == "PUT" and handler.path.endswith("/manifests/t"):
            fake.manifests.setdefault(("team/app", "t"), fake.manifests["team/app", theirs])
        return False

    fake.ways.faults.append(quicker)
    assert series.add(repo, "t", ours) == "t__2"
    assert (repo.exists("t"), repo.exists("t__2")) == (theirs, ours)
    assert series.once(repo, ours, "t") == theirs


def test_a_put_whose_answer_was_lost_has_been_done(repo: Registry, fake: FakeRegistry) -> None:
    digest = pushed(repo, "a")

    def executed(handler: Handler) -> bool:
        if handler.command != "PUT" or ("team/app", "t") in fake.manifests:
            return False
        handler.read_body()
        fake.manifests["team/app", "t"] = fake.manifests["team/app", digest]
        handler.hang_up()
        return True

    fake.ways.faults.append(executed)
    assert series.add(repo, "t", digest) == "t"
    assert repo.tags() == ["t"]


@pytest.mark.parametrize("deletes", [True, False])
def test_verdicts_follow_each_other(repo: Registry, fake: FakeRegistry, *, deletes: bool) -> None:
    fake.ways.deletes = deletes
    for turn in range(3):
        for reason in ("why", "worse"):
            given = reject(repo, "k", f"what {turn}", reason)
            assert rejection(repo, "k") == given
        pardon(repo, "k")
        assert rejection(repo, "k") is None
        pardon(repo, "k")
    assert len(repo.tags()) == (0 if deletes else 9)
    assert all(tag.startswith(rejection_tag("k")) for tag in repo.tags())


@pytest.mark.parametrize("status", [400, 403, 503])
def test_a_verdict_that_is_not_taken_hides_nothing(repo: Registry, fake: FakeRegistry, status: int) -> None:
    said: list[str] = []
    error = SmokeFailed("the smoke request got the wrong answer")
    fake.fail("PUT", "manifests", status, times=100)
    assert not note(repo, "k", "digits: 1 + 2", error, say=said.append)
    assert rejection(repo, "k") is None
    [line] = said
    assert line.startswith("That digits: 1 + 2 is refused cannot be noted, so it will be tried again: ")
    assert "\n" not in line
    fake.ways.faults.clear()
    assert note(repo, "k", "digits: 1 + 2", error, say=said.append)
    assert (found := rejection(repo, "k"))
    assert found.reason == str(error)
