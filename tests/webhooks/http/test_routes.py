"""Which sources may call: blocks or a file, the last known ones while nobody can tell, and which server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from linkspan.errors import ConfigError, ServerUnavailable
from linkspan.webhooks.http import known_server, routes
from linkspan.webhooks.http.known_server import KnownServer
from linkspan.webhooks.http.routes import SavedRoutes, blocks_of, routes_in
from tests.waiting import until
from tests.webhooks.prefect_fake import PASSWORD, Failure, PrefectFake, prefect_fake
from tests.webhooks.process import fields
from tests.webhooks.serving import SECRET


class TestRoutes:
    """Where they come from."""

    def test_a_block_that_is_wrong_is_said_without_its_secret_and_holds_up_nobody(self) -> None:
        said: list[str] = []
        found = {
            "good": fields(),
            "short": fields(secret="s3cr3t"),
            "who": fields(provider="sourceforge"),
            "empty": {"provider": "github"},
            "nothing": fields() | {"start": []},
            "types": {"provider": 1, "secret": [SECRET], "start": "a/x"},
        }
        routes = SavedRoutes(lambda: found, say=said.append)
        assert routes.renew()
        assert [name for name in found if routes.get(name)] == ["good"]
        assert len([line for line in said if "is not served" in line]) == 5
        assert not [line for line in said if SECRET in line or "s3cr3t" in line]

    def test_while_nobody_can_tell_the_known_ones_go_on_and_that_is_said_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(routes, "LEAST_SECONDS", -1)
        said: list[str] = []
        away = ServerUnavailable("away")
        answers: Iterator[dict[str, Any] | ServerUnavailable] = iter([{"git": fields()}, away, away, {}])

        def fetch() -> dict[str, Any]:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        saved = SavedRoutes(fetch, say=said.append)
        for known in (True, True, True, False):
            saved.renew()
            assert bool(saved.get("git")) is known
        assert len([line for line in said if "away" in line]) == 1

    @pytest.mark.parametrize(
        "failure",
        [
            Failure(404),
            Failure(401),
            Failure(500),
            Failure(200, b"<html>Sign in</html>"),
            Failure(200, b"[1]"),
            Failure(200, b'[{"name": "git", "data": 1}]'),
            Failure(200, b'{"git": {}}'),
            Failure(how="drop"),
        ],
    )
    def test_whatever_is_answered_instead_of_blocks_changes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, fake: PrefectFake, failure: Failure
    ) -> None:
        monkeypatch.setattr(routes, "LEAST_SECONDS", -1)
        fake.blocks["git"] = fields()
        saved = SavedRoutes(blocks_of(fake.server))
        saved.renew()
        fake.fail = lambda _method, path: failure if "block_documents" in path else None
        saved.renew()
        assert saved.get("git")

    def test_nobody_looks_more_often_than_every_few_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routes, "LEAST_SECONDS", 3600)
        looked = []
        saved = SavedRoutes(lambda: looked.append(1) or {})  # type: ignore[func-returns-value]
        assert [saved.renew() for _ in range(100)] == [True] + [False] * 99
        assert len(looked) == 1

    @pytest.mark.parametrize("text", ["[", '[git]\nsecret = "unfinished', "git = 1", "\x00", "[a]\n" * 2])
    def test_a_file_that_is_wrong_is_said_without_its_text(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "routes.toml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(str(file))) as caught:
            routes_in(file)()
        assert "unfinished" not in str(caught.value)

    def test_toml_and_json_say_the_same(self, tmp_path: Path) -> None:
        one, other = tmp_path / "a.toml", tmp_path / "a.json"
        one.write_text(f'[git]\nprovider = "github"\nsecret = "{SECRET}"\nstart = ["a/x"]\n')
        other.write_text(json.dumps({"git": fields()}))
        assert routes_in(one)() == routes_in(other)() == {"git": fields()}

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"git": 1}', b"\xff", b"[" * 100_000])
    def test_a_broken_cache_is_as_none(self, tmp_path: Path, content: bytes) -> None:
        cache = tmp_path / "routes.json"
        cache.write_bytes(content)
        saved = SavedRoutes(lambda: {"git": fields()}, cache=cache)
        saved.start()
        try:
            until(lambda: saved.get("git"))
            until(lambda: json.loads(cache.read_bytes()) == {"git": fields()})
        finally:
            saved.stop()


def test_the_server_is_looked_up_again(monkeypatch: pytest.MonkeyPatch, fake: PrefectFake) -> None:
    monkeypatch.setattr(known_server, "LOOK_SECONDS", -1)
    monkeypatch.setattr(known_server, "KEEP_SECONDS", 3600)
    with prefect_fake() as other:
        now: list[PrefectFake | None] = [None, fake, fake, None, other]

        def find() -> Any:
            found = now.pop(0)
            if found is None:
                raise ConfigError("no Prefect server is known")
            from linkspan.prefect_api.server import Server

            return Server(found.api_url, SecretStr(PASSWORD))

        server = KnownServer(find)
        with pytest.raises(ServerUnavailable, match="no Prefect server is known"):
            server()
        first = server()
        assert first.api_url == fake.api_url
        assert server() is first
        assert server() is first, "what was known may come back"
        assert server().api_url == other.api_url
        assert first.version()
        first.close()
        server.close()
