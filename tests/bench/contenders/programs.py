"""Contenders that no Debian package has, built from Go modules once."""

from pathlib import Path

from tests import gomodule
from tests.gomodule import GoModule

_HERE = Path(__file__).parent / "go"

ORAS = GoModule(
    sources=_HERE / "oras",
    cache=gomodule.CACHE / "oras",
    project="ORAS",
    path="oras.land/oras",
    programs={"oras": (".",)},
)
CRANE = GoModule(
    sources=_HERE / "crane",
    cache=gomodule.CACHE / "crane",
    project="crane",
    path="github.com/google/go-containerregistry",
    programs={"crane": (".",)},
)
