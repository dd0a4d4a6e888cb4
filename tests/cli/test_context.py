"""What a command knows about its app before it does anything."""

from pathlib import Path

import pytest

from linkspan.cli.context import Context
from linkspan.cli.links import Links
from linkspan.code.source import GitSettings
from linkspan.processes import free_port
from tests.repos import Repository

GOOD = 'name = "shop"\n[model]\nname = "ranker"\n[environments.production]\nnamespace = "shops"\n'


@pytest.mark.parametrize(
    ("runtime", "namespace"), [("kubernetes-runtime/shop", "shops"), ("docker-runtime/shop", "")]
)
def test_a_slip_in_linkspan_toml_hides_no_service(
    runtime: str, namespace: str, nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    repository = Repository(tmp_path / "git")
    context = Context("shop")
    vars(context)["links"] = Links(runtime=runtime)
    vars(context)["source"] = GitSettings(url=str(repository.bare)).open(tmp_path / "cache")
    repository.commit({"linkspan.toml": GOOD})
    repository.commit({"linkspan.toml": "nmae = 'shop'\n"})
    assert context.service.namespace == namespace
