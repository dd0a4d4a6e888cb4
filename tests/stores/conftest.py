"""`place`: an empty store of each kind in turn. `remote_place`: of each kind behind a network."""

import pytest

from tests.stores.places import PLACES, MakePlace, Place, RemotePlace

NEEDS = {"azure": ["azurite"], "s3": ["moto"], "s3-versioned": ["moto"]}
EACH = {kind: pytest.param(kind, marks=pytest.mark.needs(*NEEDS.get(kind, []))) for kind in PLACES}


@pytest.fixture(params=list(EACH.values()))
def make_place(request: pytest.FixtureRequest) -> MakePlace:
    return PLACES[str(request.param)](request)


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place()


@pytest.fixture(params=[each for kind, each in EACH.items() if kind != "file"])
def remote_place(request: pytest.FixtureRequest) -> RemotePlace:
    place = PLACES[str(request.param)](request)()
    assert place.remote is not None
    return RemotePlace(place.store, place.remote)
