"""What each git provider means in particular; what holds for all of them is in test_conformance.py."""

import json
from collections.abc import Mapping

import pytest

from linkspan.errors import ConfigError, WebhookRefused
from linkspan.webhooks.providers.push import Push, reading, told
from linkspan.webhooks.providers.register import PROVIDERS, provider
from tests.webhooks.providers import git_samples as p
from tests.webhooks.providers import makers as m
from tests.webhooks.samples import NOW, SECRET, changed, payload, read, refused, settings, with_header

SAMPLES = {sample.name: sample for sample in p.SAMPLES}
SHA = "602266a"


@pytest.mark.parametrize(
    ("name", "text"),
    {
        "github": f"push by ada-l to main: {SHA} Say hello",
        "github-form": f"push by ada-l to main: {SHA} Say hello",
        "gitlab-token": f"push by Ada Lovelace to release/2026: {SHA} Say hello",
        "gitlab-signing-token": f"push by Ada Lovelace to release/2026: {SHA} Say hello",
        "gitea": f"push by Ada Lovelace to main: {SHA} Say hello",
        "forgejo": f"push by Ada Lovelace to main: {SHA} Say hello",
        "bitbucket": f"push by Ada Lovelace to main: {SHA} Say hello",
        "bitbucket-data-center": f"push by Ada Lovelace to main: {SHA} Say hello",
        "azure-repos": f"push by Ada Lovelace to main: {SHA} Say hello",
        "git": f"push by ada to main: {SHA} Say hello",
        "signed-commit": f"push by Ada Lovelace to main: {SHA} Say hello",
        "signed-model": "model digits v13 by Ada Lovelace",
    }.items(),
)
def test_people_read_who_pushed_what(name: str, text: str) -> None:
    sample = SAMPLES[name]
    [hint] = read(sample.valid, sample.settings).hints
    assert hint.text == text
    assert hint.at is not None
    assert abs((hint.at - NOW).total_seconds()) < 86_400


def test_every_sample_is_told_apart() -> None:
    assert set(SAMPLES) >= {
        "github",
        "gitlab-token",
        "gitea",
        "bitbucket",
        "azure-repos",
        "git",
        "signed-commit",
    }
    assert {sample.settings.provider for sample in p.SAMPLES} <= set(PROVIDERS)


def test_an_unknown_provider_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(
        ConfigError, match=r"no webhook provider 'gihtub' \(expected one of azure-repos, bitbucket"
    ):
        provider("gihtub")


def test_the_commit_is_the_pushed_one_not_the_last_of_the_list() -> None:
    body = changed(p.GITLAB_PUSH, "commits", to=json.loads(p.GITLAB_PUSH)["commits"][::-1])
    [hint] = read(m.gitlab_token(body, p.gitlab), p.gitlab).hints
    assert hint.text.endswith("Say hello")
    # The first push to an empty project lists none (gitlab-ce#10862).
    [hint] = read(m.gitlab_token(changed(p.GITLAB_PUSH, "commits", to=[]), p.gitlab), p.gitlab).hints
    assert hint.text.endswith(f"to release/2026: {SHA}")


@pytest.mark.parametrize("name", ["github", "gitlab-token", "gitea", "bitbucket", "azure-repos"])
def test_any_repository_counts_when_none_is_named(name: str) -> None:
    sample = SAMPLES[name]
    source = sample.settings.model_copy(update={"repository": ""})
    assert read(sample.make(sample.elsewhere["other repository"], source), source).hints


def test_ignoring_says_what_would_count() -> None:
    def ignored(name: str, key: str) -> str:
        sample = SAMPLES[name]
        return read(sample.make(sample.elsewhere[key], sample.settings), sample.settings).ignored

    assert ignored("github", "other branch") == "a push to 'refs/heads/dev'; only the branch 'main' counts"
    assert (
        ignored("github", "tag of that name") == "a push to 'refs/tags/main'; only the branch 'main' counts"
    )
    assert ignored("github", "deleted") == "the branch 'main' was deleted"
    assert ignored("github", "other repository") == (
        "repository 'harbour-ai/digits-2'; only 'Harbour-AI/digits' counts"
    )
    assert ignored("gitlab-token", "other event") == "event 'tag_push'; only pushes count"
    assert ignored("azure-repos", "other event") == "event 'git.pullrequest.created'; only pushes count"
    assert ignored("signed-commit", "other type") == "type 'invoice.paid'; only commit and model count"
    assert ignored("signed-model", "other container") == "container 'datasets'; only 'models' counts"
    assert ignored("signed-model", "other prefix") == (
        "path 'vision/digits2/v13/manifest.json'; only what is below 'vision/digits' counts"
    )


def test_pings_are_welcome() -> None:
    ping = payload("github_ping.json")
    github = with_header(p.make_github(ping, p.github), "x-github-event", "ping")
    assert read(github, p.github).ignored == "a ping from GitHub: the webhook works"
    bitbucket = with_header(
        p.make_data_center(b'{"test":true}', p.data_center), "x-event-key", "diagnostics:ping"
    )
    assert read(bitbucket, p.data_center).ignored == "a ping from Bitbucket: the webhook works"
    signed = m.standard(b'{"type":"ping"}', p.signed)
    assert read(signed, p.signed).ignored == "a ping from a sender of signed messages: the webhook works"


def test_a_ping_with_another_secret_is_no_ping() -> None:
    other = settings("github", secret="another secret of some length")
    github = with_header(p.make_github(payload("github_ping.json"), other), "x-github-event", "ping")
    assert "another secret" in refused(github, p.github)


@pytest.mark.parametrize(
    ("name", "header"),
    {"github": "x-github-event", "gitea": "x-gitea-event", "bitbucket": "x-event-key"}.items(),
)
def test_the_event_must_be_named_once(name: str, header: str) -> None:
    sample = SAMPLES[name]
    assert header in refused(with_header(sample.valid, header), sample.settings)
    assert "2 times" in refused(with_header(sample.valid, header, "push", "push"), sample.settings)
    other = read(with_header(sample.valid, header, "release\x1b[31m"), sample.settings)
    assert other.ignored == "event 'release'; only pushes count"


@pytest.mark.parametrize(
    "form",
    [
        b"payload=",
        b"payload=%7B",
        b"x=%7B%7D",
        b"payload=%7B%7D&payload=%7B%7D",
        b"payload=%ff",
        b"payload",
        b"",
    ],
)
def test_github_form_that_is_not_githubs(form: bytes) -> None:
    headers = m.GITHUB | {"content-type": "application/x-www-form-urlencoded"}
    assert refused(m.hmac_maker("x-hub-signature-256", "sha256=", headers)(form, p.github), p.github)


def test_gitea_form_is_refused_with_a_word_about_it() -> None:
    """Gitea signs the JSON, but sends the form: nothing that was signed is on the wire."""
    body = b"payload=%7B%7D"
    request = m.hmac_maker(
        "x-gitea-signature", "", m.GITEA | {"content-type": "application/x-www-form-urlencoded"}
    )(body, p.gitea)
    assert "expected application/json" in refused(request, p.gitea)


def test_gitea_without_a_secret_is_refused() -> None:
    """It then sends the header, empty."""
    request = with_header(p.make_gitea(p.GITEA_PUSH, p.gitea), "x-gitea-signature", "")
    assert "the webhook at the provider has no secret" in refused(request, p.gitea)


def test_forgejo_signs_twice_and_the_first_counts() -> None:
    """It sends Gitea's headers too, with the same signature."""
    forgejo = SAMPLES["forgejo"].valid
    right = forgejo.header("x-forgejo-signature")
    assert read(with_header(forgejo, "x-gitea-signature", right), p.gitea).hints
    spoilt = with_header(forgejo, "x-forgejo-signature", "0" * 64)
    assert read(with_header(spoilt, "x-gitea-signature", right), p.gitea).hints
    assert "x-gitea-signature" in refused(with_header(forgejo, "x-gitea-signature", "0" * 64), p.gitea)


def test_gitlabs_secret_decides_how_it_is_verified_never_the_request() -> None:
    with_token = with_header(m.gitlab_token(p.GITLAB_PUSH, p.gitlab_signing), "webhook-signature")
    assert "webhook-signature" in refused(with_token, p.gitlab_signing)
    key = settings("gitlab", secret=SECRET + " as a token", branch="release/2026")
    assert "x-gitlab-token" in refused(m.standard(p.GITLAB_PUSH, key), key)
    both = with_header(m.standard(p.GITLAB_PUSH, p.gitlab_signing), "x-gitlab-token", "whatever else is set")
    assert read(both, p.gitlab_signing).hints


@pytest.mark.parametrize(
    "said",
    [
        {"type": "commit", "sha": "a" * 40},
        {"type": "commit", "sha": "b" * 64},
        {"type": "model", "name": "digits"},
    ],
)
def test_what_a_signed_message_leaves_out_is_not_compared(said: Mapping[str, str]) -> None:
    source = p.signed.model_copy(update={"container": "models", "prefix": "vision"})
    for body in (dict(said), {"type": said["type"], "data": dict(said)}):
        assert read(m.standard(json.dumps(body).encode(), source), source).hints


def test_azure_that_sends_no_details_is_told_to() -> None:
    resources: list[object] = [None, {}, {"refUpdates": []}]
    for resource in resources:
        body = changed(p.AZURE_PUSH, "resource", to=resource)
        assert 'choose "All" for "Resource details to send"' in refused(m.basic(body, p.azure), p.azure)


def test_one_push_of_several_refs() -> None:
    update = json.loads(p.AZURE_PUSH)["resource"]["refUpdates"][0]
    tag = update | {"name": "refs/tags/v1"}
    for updates in ([tag, update], [update, tag]):
        body = changed(p.AZURE_PUSH, "resource", "refUpdates", to=updates)
        [hint] = read(m.basic(body, p.azure), p.azure).hints
        assert "to main" in hint.text
    change = json.loads(p.CLOUD_PUSH)["push"]["changes"][0]
    other = json.loads(json.dumps(change).replace('"main"', '"dev"'))
    for changes in ([change, other], [other, change], [{"old": change["old"], "new": None}, change]):
        body = changed(p.CLOUD_PUSH, "push", "changes", to=changes)
        assert len(read(p.make_bitbucket(body, p.bitbucket), p.bitbucket).hints) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"linkspan-push 1\n",
        p.GIT_PUSH.replace(b"push 1", b"push 2"),
        p.GIT_PUSH.replace(b"repository digits\n", b""),
        p.GIT_PUSH.replace(b"by ada\n", b"repository other\n"),
        p.GIT_PUSH.replace(b"\n\n", b"\n"),
        p.GIT_PUSH.replace(b"refs/heads/main", b"heads/main"),
        p.GIT_PUSH.replace(b"602266ad56", b"602266AD56"),
        p.GIT_PUSH + b"and more\n",
        p.GIT_PUSH.replace(b"\n", b"\r\n"),
    ],
)
def test_what_the_hook_does_not_write_is_refused(body: bytes) -> None:
    assert refused(p.make_git(body, p.git), p.git)


def test_a_commit_of_sha256_and_hostile_words() -> None:
    push = Push(
        "r",
        "refs/heads/" + "b" * 500,
        "c" * 64,
        by="\x1b[2J" + "n" * 500,
        subject="s" * 10_000 + "\nnot this",
    )
    text = told(push)
    assert len(text) <= 300
    assert text.startswith("push by nnn")
    assert ": ccccccc sss" in text


@pytest.mark.parametrize("sha", ["c" * 39, "C" * 40, "c" * 41, "main", "c" * 40 + "\n", "../x"])
def test_a_push_of_no_commit_is_refused(sha: str) -> None:
    with pytest.raises(WebhookRefused, match="names no commit"):
        reading([Push("r", "refs/heads/main", sha)], settings("github"), "key")
