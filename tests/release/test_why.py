"""Which revision an address, an image or a replica stands for, and what is said about it."""

from typing import Any

import pytest

from linkspan.errors import ConfigError
from linkspan.nouns import Revision
from linkspan.release.why import (
    HISTORY,
    Question,
    answer,
    live_of,
    read_question,
    same_place,
    that_says,
    with_image,
    with_number,
)
from tests.values import release, revision

ONE, TWO, THREE = release(1, "v1"), release(2, "v2"), release(3, "v3")
# Revision 3 failed, revision 5 is release one again.
STORY = [
    revision(5, ONE, pinned=True),
    revision(4, THREE, outcome="replaced"),
    revision(3, THREE, outcome="failed", reason="it crashed"),
    revision(2, TWO, outcome="replaced"),
    revision(1, ONE, outcome="replaced"),
]


@pytest.mark.parametrize(
    ("text", "kind", "read"),
    [
        ("https://shop.example.org/buy?x=1", "url", "https://shop.example.org"),
        ("HTTP://Shop.Example.org:8080", "url", "http://shop.example.org:8080"),
        ("localhost:4242", "url", "http://localhost:4242"),
        ("shop.example.org", "url", "http://shop.example.org"),
        ("http://[::1]:80/", "url", "http://[::1]:80"),
        ("http://ada:secret@shop.example.org", "url", "http://shop.example.org"),
        ("sha256:3FA9C1D", "image", "3fa9c1d"),
        ("3fa9c1d", "image", "3fa9c1d"),
        (f"registry.example.org:5000/team/shop@sha256:{'a' * 64}", "image", "a" * 64),
        ("digits-7d5f9c8b6-x2kqp", "replica", "digits-7d5f9c8b6-x2kqp"),
        ("pod/digits.v2-7d5f9c8b6-x2kqp", "replica", "digits.v2-7d5f9c8b6-x2kqp"),
        ("linkspan-digits-production-r3-0", "replica", "linkspan-digits-production-r3-0"),
        ("3fa9c1", "replica", "3fa9c1"),
    ],
)
def test_what_is_asked(text: str, kind: Any, read: str) -> None:
    assert read_question(text) == Question(kind, read)


@pytest.mark.parametrize(
    "text",
    ["", " ", "ftp://example.org", "http://", "http://x:port", "sha256:3fa9c1", "a b", "a,b", "pod/a=b"],
)
def test_what_cannot_be_asked(text: str) -> None:
    with pytest.raises(ConfigError):
        read_question(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:8080", "http://localhost:8080", True),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("http://shop.example.org", "https://shop.example.org", True),
        ("http://shop.example.org:80", "https://shop.example.org.", True),
        ("http://shop.example.org", "http://shop.example.org:8080", False),
        ("http://shop.example.org", "http://staging.example.org", False),
    ],
)
def test_the_same_place(one: str, other: str, same: bool) -> None:
    assert same_place(one, other) is same
    assert same_place(other, one) is same


def number(found: Revision | None) -> int | None:
    return found.number if found else None


def test_the_live_revision_of_an_image_comes_first() -> None:
    assert number(with_image(STORY, ONE.image.removeprefix("sha256:"))) == 5
    assert number(with_image(STORY, "f000002")) == 2
    assert number(with_image(STORY, "f000003")) == 4
    assert with_image(STORY, "f000009") is None
    assert number(live_of(STORY)) == 5
    assert number(with_number(STORY, 3)) == 3
    assert with_number(STORY, 6) is None


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"commit": TWO.commit.sha, "model": {"version": "v2"}}, 2),
        ({"build": [TWO.commit.sha[:7]], "weights": TWO.model.digest}, 2),
        ({"commit": ONE.commit.sha, "model": "v1"}, 5),
        ({"commit": ONE.commit.sha, "model": "v7"}, None),
        ({"commit": ONE.commit.sha[:6], "model": "v1"}, None),
        ({"model": "v1"}, None),
        (["unknown"], None),
        (None, None),
    ],
)
def test_what_an_app_says_of_itself(document: Any, found: int | None) -> None:
    assert number(that_says(STORY, document)) == found


def test_one_that_never_became_ready_serves_nobody() -> None:
    assert that_says(STORY[2:], {"commit": THREE.commit.sha, "model": "v3"}) is None


@pytest.mark.parametrize(
    ("asked", "state", "replaced", "replaced_by", "also"),
    [
        (5, "live", 4, None, (1,)),
        (4, "replaced", 2, 5, (3,)),
        (3, "failed", None, None, (4,)),
        (2, "replaced", 1, 4, ()),
        (1, "replaced", None, 2, (5,)),
    ],
)
def test_what_became_of_it(
    asked: int, state: str, replaced: int | None, replaced_by: int | None, also: tuple[int, ...]
) -> None:
    [wanted] = [each for each in STORY if each.number == asked]
    found = answer("digits-production", STORY, wanted, url=None, found_by="image")
    assert (found.state, number(found.replaced), number(found.replaced_by), found.also) == (
        state,
        replaced,
        replaced_by,
        also,
    )
    assert found.complete


def test_of_two_that_say_they_are_live_the_newer_one_is() -> None:
    """A rollout that was killed at its very end had not yet written down what it replaced."""
    history = [revision(2, TWO), revision(1, ONE)]
    found = answer("digits-production", history, history[1], url=None, found_by="image")
    assert (found.state, number(found.replaced_by)) == ("replaced", 2)


def test_a_full_history_may_have_forgotten_the_first() -> None:
    history = [revision(each, ONE) for each in range(HISTORY + 3, 3, -1)]
    assert len(history) == HISTORY
    assert not answer("digits-production", history, history[-1], url=None, found_by="image").complete
