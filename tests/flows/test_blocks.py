"""Blocks against a real server: forms, secrets, and the same thing opened with and without Prefect."""

import json
import subprocess
import sys
from types import FunctionType
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from pydantic import BaseModel, SecretStr

import blocks
from linkspan.cli import links
from linkspan.code.source import GitSettings
from linkspan.errors import ConfigError, ServerError
from linkspan.prefect_api.server import Server
from linkspan.prefect_api.values import settings_from
from linkspan.registry.settings import RegistrySettings
from linkspan.runtimes.base import RuntimeSettings
from linkspan.stores.settings import StoreSettings
from tests.services.prefect_server import AUTH, PrefectServer, asked

SECRET = "s3cr3t-hunter2-hunter3"

# One saved document of each kind, with everything that is secret in it filled in.
SAMPLES: dict[str, dict[str, Any]] = {
    "git-repository": {"url": "https://git.example/app.git", "token": SECRET, "private_key": SECRET},
    "file-model-store": {"path": "/srv/models"},
    "azure-model-store": {"container": "models", "connection_string": SECRET, "sas_token": SECRET},
    "s3-model-store": {"bucket": "models", "access_key_id": "AKIA", "secret_access_key": SECRET},
    "container-registry": {"host": "registry.example", "username": "me", "password": SECRET},
    "image-builder": {"build_args": ["A=1"]},
    "docker-runtime": {"port": 8081},
    "kubernetes-runtime": {"context": "production", "kubeconfig": SECRET},
    "webhook-source": {"provider": "github", "secret": SECRET, "start": ["app-stream/digits"]},
}

KINDS: dict[str, type[Block]] = {kind.get_block_type_slug(): kind for kind in blocks.ALL}
every_kind = pytest.mark.parametrize("slug", sorted(KINDS))


def settings_class(slug: str) -> type[BaseModel]:
    return next(
        base for base in KINDS[slug].__mro__ if not issubclass(base, Block) and issubclass(base, BaseModel)
    )


def secret_fields(slug: str) -> list[str]:
    return [
        name
        for name, field in settings_class(slug).model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]


def test_flows_and_command_line_know_the_same_kinds() -> None:
    assert KINDS.keys() == links.SETTINGS.keys() == SAMPLES.keys()
    for slug, kind in KINDS.items():
        assert links.settings_class(slug) is settings_class(slug)
        assert kind.__module__ == "blocks"


@every_kind
def test_a_block_is_fields_and_factories_of_its_settings_and_no_logic(slug: str) -> None:
    kind = KINDS[slug]
    own = {name for name, value in vars(kind).items() if isinstance(value, FunctionType)}
    assert own <= {"model_post_init"}  # pydantic makes one of these in every class
    assert set(kind.model_fields) == set(settings_class(slug).model_fields)


@every_kind
def test_the_form_explains_every_field_and_hides_every_secret(slug: str) -> None:
    schema = KINDS[slug].model_json_schema()
    for name, field in settings_class(slug).model_fields.items():
        assert field.description or field.title, f"{slug}.{name} has neither description nor title"
    assert set(schema["secret_fields"]) == set(secret_fields(slug))
    for name in SAMPLES[slug]:
        assert name in schema["properties"]


@pytest.fixture
def server(engine_flows: PrefectServer, prefect_api: PrefectServer) -> Server:
    assert engine_flows is prefect_api
    return prefect_api.api()


@every_kind
async def test_saved_by_prefect_it_opens_as_the_same_thing_without_prefect(server: Server, slug: str) -> None:
    name = f"a-{uuid4().hex}"
    sample = KINDS[slug](**SAMPLES[slug])
    await sample.asave(name)
    loaded = await Block.aload(f"{slug}/{name}")
    assert type(loaded) is KINDS[slug]

    fields = settings_class(slug).model_fields
    opened = links.open_block(server, f"{slug}/{name}", BaseModel)
    assert type(opened) is settings_class(slug)
    for field in fields:
        assert getattr(opened, field) == getattr(loaded, field) == getattr(sample, field)
    for field in set(secret_fields(slug)) & set(SAMPLES[slug]):
        assert getattr(opened, field) == SecretStr(SECRET)


@every_kind
async def test_saved_without_prefect_it_loads_with_it(server: Server, slug: str) -> None:
    name = f"b-{uuid4().hex}"
    server.save_block(f"{slug}/{name}", {**SAMPLES[slug]})
    server.save_block(f"{slug}/{name}", SAMPLES[slug])  # again: it is replaced
    loaded = await KINDS[slug].aload(name)
    expected = settings_class(slug)(**SAMPLES[slug])
    assert {field: getattr(loaded, field) for field in type(expected).model_fields} == dict(expected)


@every_kind
async def test_nobody_sees_a_secret_who_does_not_ask_for_it(server: Server, slug: str) -> None:
    name = f"c-{uuid4().hex}"
    server.save_block(f"{slug}/{name}", SAMPLES[slug])
    assert SECRET not in as_others_see_it(server, slug, name)
    loaded: Block = await KINDS[slug].aload(name)
    opened = links.open_block(server, f"{slug}/{name}", BaseModel)
    for text in (repr(loaded), str(loaded), repr(opened), opened.model_dump_json(), loaded.model_dump_json()):
        assert SECRET not in text


def as_others_see_it(server: Server, slug: str, name: str) -> str:
    path = f"block_types/slug/{slug}/block_documents/name/{name}"
    return asked(server.api_url, AUTH, "GET", path).text


def test_replacing_drops_what_is_no_longer_said(server: Server) -> None:
    ref = f"container-registry/d-{uuid4().hex}"
    server.save_block(ref, SAMPLES["container-registry"])
    server.save_block(ref, {"host": "other.example"})
    opened = links.open_block(server, ref, RegistrySettings)
    assert (opened.host, opened.username, opened.password) == ("other.example", "", None)


def test_a_block_that_was_never_saved_is_named(server: Server) -> None:
    with pytest.raises(ServerError, match="block git-repository/nowhere is not on"):
        links.open_block(server, "git-repository/nowhere", GitSettings)


@pytest.mark.parametrize("ref", ["git-repository", "git-repository/", "a/b/c", ""])
def test_a_reference_that_names_nothing_is_refused(server: Server, ref: str) -> None:
    with pytest.raises(ConfigError, match="names no block"):
        server.block(ref)


def test_a_block_of_the_wrong_kind_is_refused(server: Server) -> None:
    with pytest.raises(ConfigError, match="azure-model-store or file-model-store or s3-model-store"):
        links.open_block(server, "git-repository/digits", StoreSettings)
    with pytest.raises(ConfigError, match="docker-runtime or kubernetes-runtime, then /name"):
        links.open_block(server, "slack-webhook/x", RuntimeSettings)


def test_an_incomplete_block_names_the_field_and_shows_no_value() -> None:
    with pytest.raises(ConfigError, match="host: Field required") as caught:
        settings_from(RegistrySettings, "container-registry/x", {"password": SECRET, "insecure": SECRET})
    assert SECRET not in str(caught.value)


def test_opening_without_prefect_imports_no_prefect() -> None:
    code = "from linkspan.cli.links import settings_class; import json, sys; "
    for slug, sample in SAMPLES.items():
        code += f"settings_class({slug!r}).model_validate({sample!r}); "
    code += "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert "prefect" not in json.loads(done.stdout)
