"""What `linkspan doctor` says of a runtime's way with models."""

from types import SimpleNamespace
from typing import Any

import pytest

from linkspan.cli.doctor import _mounting
from linkspan.errors import ConfigError, ReleaseError
from linkspan.runtimes.base import Mounting
from tests.registry.images import CONFIG


def context(mount: str, offer: Mounting) -> Any:
    config = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"mount": mount})})
    return SimpleNamespace(
        newest_config=config,
        runtime=SimpleNamespace(mounting=lambda _path, _objects: offer),
        service="digits-production",
    )


OLD = "node a has Kubernetes v1.30.1, older than 1.35"


@pytest.mark.parametrize(
    ("mount", "offer", "says"),
    [
        ("auto", Mounting("all"), "; new releases mount their model"),
        ("auto", Mounting("some", OLD), f"; models are not mounted: {OLD}"),
        ("auto", Mounting("some"), ""),
        ("image", Mounting("unknown", OLD), "; new releases mount their model"),
        ("layers", Mounting("all"), ""),
    ],
)
def test_whether_models_are_mounted(mount: str, offer: Mounting, says: str) -> None:
    assert _mounting(context(mount, offer)) == says


def test_what_must_be_mounted_and_cannot_is_a_finding() -> None:
    with pytest.raises(ReleaseError, match="digits-production cannot mount the image of model digits"):
        _mounting(context("image", Mounting("none", OLD)))


def test_a_config_that_cannot_be_read_is_another_checks_finding() -> None:
    class Broken:
        @property
        def newest_config(self) -> Any:
            raise ConfigError("no such key")

    broken: Any = Broken()
    assert _mounting(broken) == ""
    empty = context("auto", Mounting("all"))
    empty.newest_config = None
    assert _mounting(empty) == ""
