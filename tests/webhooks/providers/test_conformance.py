"""What holds for every provider: a valid request is a hint, and nothing that is spoilt starts anything.

Refused or ignored starts nothing, and neither does a hint whose key is known: the inbox drops it.
"""

import json
import random
from collections.abc import Sequence

import pytest

from linkspan.errors import WebhookRefused
from linkspan.plain_text import plain_text
from linkspan.webhooks.base import Reading, Request
from tests.effort import effort
from tests.webhooks.providers import git_samples, store_samples
from tests.webhooks.providers.spoilers import (
    BODY_SPOILERS,
    SAYS_NOTHING,
    SPOILERS,
    hostile,
    mangled,
    mutated,
    paths,
)
from tests.webhooks.samples import Sample, with_header, with_proof

SAMPLES: list[Sample] = [*git_samples.SAMPLES, *store_samples.SAMPLES]

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
Keys = Sequence[str]


def told(sample: Sample, request: Request) -> Reading | None:
    """What the provider makes of it; None if it is refused. Any other error is the test's."""
    refused = ""
    try:
        sample.provider.verify(request, sample.settings)
        reading = sample.provider.read(request, sample.settings)
    except WebhookRefused as error:
        refused = str(error)
    if refused:
        assert refused == plain_text(refused), "the log would obey a stranger"
        return None
    assert reading.hints or reading.ignored or reading.reply is not None, "it must say why nothing starts"
    assert reading.ignored == plain_text(reading.ignored)
    for hint in reading.hints:
        assert hint.text == plain_text(hint.text).strip() != ""
    return reading


def keys(sample: Sample, request: Request) -> Keys | None:
    reading = told(sample, request)
    return None if reading is None else tuple(hint.key for hint in reading.hints)


@every_sample
def test_what_is_valid_is_a_hint(sample: Sample) -> None:
    reading = told(sample, sample.valid)
    assert reading is not None
    assert reading.hints
    assert not reading.ignored


@every_sample
@pytest.mark.parametrize("spoiler", SPOILERS)
def test_a_request_without_proof_is_refused(sample: Sample, spoiler: str) -> None:
    if spoiler in sample.spoiled:
        assert keys(sample, sample.spoiled[spoiler]) is None
        return
    for request in SPOILERS[spoiler](sample):
        assert keys(sample, request) is None, request


@every_sample
@pytest.mark.parametrize("spoiler", BODY_SPOILERS)
def test_a_body_that_was_changed_starts_nothing(sample: Sample, spoiler: str) -> None:
    known = keys(sample, sample.valid)
    for request in BODY_SPOILERS[spoiler](sample):
        found = keys(sample, request)
        if sample.signs and sample.proof:
            assert found is None, request.body
        elif sample.signs:
            # The proof is in the body, and covers what it means, not how it is written.
            assert found in {None, (), known}, request.body
        elif spoiler == "truncated":
            assert found is None, request.body


@every_sample
def test_what_was_told_before_has_the_same_key(sample: Sample) -> None:
    known = keys(sample, sample.valid)
    assert known
    assert keys(sample, sample.valid) == known
    for name, request in sample.retold.items():
        assert keys(sample, request) == known, name
    for header in sample.unsigned_headers:
        for values in (["0b5c1c1e-another"], []):
            replayed = with_header(sample.valid, header, *values)
            assert keys(sample, replayed) == known, header


@every_sample
def test_other_news_has_another_key(sample: Sample) -> None:
    known = keys(sample, sample.valid)
    for name, request in sample.news.items():
        found = keys(sample, request)
        assert found, name
        assert found != known, name


@every_sample
def test_what_is_about_something_else_is_ignored(sample: Sample) -> None:
    assert sample.elsewhere
    for name, body in sample.elsewhere.items():
        assert body != sample.body, name
        assert keys(sample, sample.make(body, sample.settings)) == (), name


@every_sample
def test_a_wrong_content_type_starts_nothing(sample: Sample) -> None:
    right = sample.valid.header("content-type")
    wrong = [
        "",
        "application/xml",
        "text/html",
        "text/plain" if not right.startswith("text/plain") else "application/json",
        "application/x-www-form-urlencoded" if "form" not in right else "application/json",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        right.partition(";")[0] + "; charset=utf-16",
        right.partition(";")[0] + "; charset=utf-7",
    ]
    for kind in wrong:
        if kind not in sample.other_types:
            assert not keys(sample, with_header(sample.valid, "content-type", kind)), kind
    assert not keys(sample, with_header(sample.valid, "content-type")), "none"
    assert not keys(sample, with_header(sample.valid, "content-type", right, right)), "twice"


@every_sample
def test_a_secret_of_another_script_is_compared_not_stumbled_over(sample: Sample) -> None:
    if not sample.proof:
        pytest.skip("the proof is in the body")
    for value in ("ключ", "\xff\xfe", "\ud800", "sha256=é", "🔑" * 300):
        assert keys(sample, with_proof(sample.valid, sample.proof, value)) is None


@every_sample
def test_thousands_of_mutations_raise_nothing_else(sample: Sample) -> None:
    """Bytes, headers and proofs at random, as they come and signed anew."""
    random_ = random.Random(f"{sample.name} 1")
    known = keys(sample, sample.valid)
    for turn in range(effort(300, 1500)):
        request = mutated(sample.valid, random_)
        found = keys(sample, request)
        # A changed event header may still be a hint; a changed body may not.
        if sample.signs and sample.proof and request.body != sample.valid.body:
            assert found is None, turn
        elif sample.signs and found:
            assert found == known, turn
        keys(sample, sample.make(mangled(sample.body, random_), sample.settings))


@every_sample
def test_json_of_any_shape_raises_nothing_else(sample: Sample) -> None:
    """The right secret, and a value of the wrong type, or a hostile one, anywhere in the document."""
    try:
        document = json.loads(sample.body)
    except ValueError:
        pytest.skip("no JSON")
    random_ = random.Random(f"{sample.name} 2")
    places = list(paths(document))
    for _ in range(effort(300, 1500)):
        body = hostile(document, random_.choice(places), random_)
        told(sample, sample.make(body, sample.settings))


@every_sample
@pytest.mark.parametrize("body", SAYS_NOTHING, ids=lambda body: body[:9].decode("latin-1"))
def test_a_signed_body_that_says_nothing_starts_nothing(sample: Sample, body: bytes) -> None:
    assert not keys(sample, sample.make(body, sample.settings))
