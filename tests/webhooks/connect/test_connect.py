"""What `linkspan connect` finds out by itself, and what it has people paste."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from linkspan.code.source import GitSettings
from linkspan.errors import ConfigError
from linkspan.stores.azure import AzureStoreSettings
from linkspan.stores.file import FileStoreSettings
from linkspan.stores.s3 import S3StoreSettings
from linkspan.stores.settings import StoreSettings
from linkspan.webhooks.connect import new_source as connect
from linkspan.webhooks.providers.proofs import standard_key
from linkspan.webhooks.providers.register import PROVIDERS

URL = "https://ci.example.com/hooks/digits-it"
FIELDS = {
    "repository": "team/digits",
    "branch": "main",
    "container": "account/models",
    "prefix": "digits/versions",
    "topic": "arn:aws:sns:eu-central-1:123456789012:models",
    "queue": "https://sqs.eu-central-1.amazonaws.com/123456789012/models",
}


def steps(provider: str, **fields: str) -> tuple[str, str]:
    """The text, and the secret that should be in it."""
    secret = connect.new_secret(provider)
    settings = connect.settings_for(provider, secret, ["app-stream/digits"], **{**FIELDS, **fields})
    return connect.STEPS[provider](URL, settings), secret


def test_every_provider_can_be_connected() -> None:
    assert set(connect.STEPS) == {*PROVIDERS, "sqs"}


@pytest.mark.parametrize("provider", sorted(connect.STEPS))
def test_the_text_says_all_that_must_be_typed(provider: str) -> None:
    text, secret = steps(provider)
    assert text.endswith("\n")
    assert max(map(len, text.split("\nEND")[0].splitlines())) <= 500
    if provider != "sqs":
        assert URL in text
    if provider not in {"sqs", "git"}:  # git's hook has keys made from it
        assert secret in text
    else:
        assert secret not in text
    assert steps(provider)[1] != secret


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        (FIELDS["queue"], "arn:aws:sqs:eu-central-1:123456789012:models"),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/m",
            "arn:aws-cn:sqs:cn-north-1:123456789012:m",
        ),
        (
            "https://sqs.us-gov-east-1.amazonaws.com/123456789012/a.fifo",
            "arn:aws-us-gov:sqs:us-gov-east-1:123456789012:a.fifo",
        ),
        ("http://localhost:5000/123456789012/models", "QUEUE-ARN"),
    ],
)
def test_a_queue_is_named_by_its_arn(url: str, arn: str) -> None:
    text, _ = steps("sqs", queue=url)
    assert f'"QueueArn": "{arn}"' in text


@pytest.mark.parametrize("provider", sorted(connect.STEPS))
def test_commands_are_commands_and_documents_are_documents(provider: str, tmp_path: Path) -> None:
    """What begins like a command to the end of its paragraph must be taken by a shell."""
    text, _ = steps(provider)
    script = tmp_path / "script"
    script.write_text(text if provider == "git" else "\n\n".join(commands(text)))
    checked = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for document in re.findall(r"<<'END'\n(.*?)\nEND\n", text, re.DOTALL):
        assert json.loads(document)
    for document in re.findall(r"(?:--[a-z-]+(?:parameters|pattern|configuration)) '(.*?)'", text):
        assert json.loads(document)


def commands(text: str) -> list[str]:
    found = re.split(r"^(?=(?:gh|glab|az|aws|connection=|destination=)\b)", text, flags=re.MULTILINE)[1:]
    return [
        each.split("\nEND\n")[0] + "\nEND\n" if "<<'END'" in each else each.split("\n\n")[0] for each in found
    ]


def test_what_python_is_pasted_is_python() -> None:
    for provider, start in (("mlflow", "import mlflow"), ("signed", "import base64")):
        text, _ = steps(provider)
        compile(text[text.index(start) :].split("\n\nLinkspan follows")[0], provider, "exec")


def test_secrets_are_of_the_form_that_the_provider_takes() -> None:
    settings = connect.settings_for("signed", connect.new_secret("signed"), ["app-stream/digits"])
    assert len(standard_key(settings)) == 32
    assert re.fullmatch(r"[\w-]{43}", connect.new_secret("github"))


@pytest.mark.parametrize(
    ("provider", "url", "repository"),
    [
        ("github", "https://github.com/team/digits.git", "team/digits"),
        ("github", "git@github.com:team/digits.git", "team/digits"),
        ("github", "ssh://git@github.com:22/team/digits", "team/digits"),
        ("gitlab", "https://gitlab.com/group/sub/digits.git", "group/sub/digits"),
        ("gitea", "https://git.example.com/some/path/team/digits.git", "team/digits"),
        ("bitbucket", "https://bitbucket.example.com/scm/PROJ/digits.git", "PROJ/digits"),
        ("bitbucket", "git@bitbucket.org:team/digits.git", "team/digits"),
        ("azure-repos", "https://org@dev.azure.com/org/My%20Project/_git/digits", "My Project/digits"),
        ("azure-repos", "git@ssh.dev.azure.com:v3/org/project/digits", "project/digits"),
        ("git", "/srv/git/digits.git", ""),
        ("github", "file:///srv/git/digits.git", ""),
    ],
)
def test_the_repository_is_read_from_its_address(provider: str, url: str, repository: str) -> None:
    assert connect.repository_of(provider, GitSettings(url=url)) == repository


AZURE: dict[str, Any] = {"container": "models", "prefix": "team"}


@pytest.mark.parametrize(
    ("store", "place"),
    [
        (S3StoreSettings(bucket="b"), ("b", "digits/versions")),
        (S3StoreSettings(bucket="b", prefix="/a/b/"), ("b", "a/b/digits/versions")),
        (S3StoreSettings(bucket="b", prefix="a", plain_objects=["model.onnx"]), ("b", "a")),
        (
            AzureStoreSettings(account_url="https://acc.blob.core.windows.net", **AZURE),
            ("acc/models", "team/digits/versions"),
        ),
        (
            AzureStoreSettings(
                connection_string=SecretStr("Protocol=https;AccountName=acc;AccountKey=k=="), **AZURE
            ),
            ("acc/models", "team/digits/versions"),
        ),
        (FileStoreSettings(path="/srv/models"), ("", "")),
    ],
)
def test_the_place_of_models_is_read_from_the_store(store: StoreSettings, place: tuple[str, str]) -> None:
    assert connect.place_of(store, "digits") == place


@pytest.mark.parametrize(
    "url", ["", "ci.example.com", "ftp://x", "https://", "https://x?y=1", "https://a:b@x"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError):
        connect.check_url(url)


def test_what_a_provider_needs_is_asked_for() -> None:
    for provider, option in (("sns", "--topic"), ("sqs", "--queue"), ("github2", "github")):
        with pytest.raises(ConfigError, match=option):
            connect.settings_for(provider, connect.new_secret(provider), ["app-stream/digits"])
