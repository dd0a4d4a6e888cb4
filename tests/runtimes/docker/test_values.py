"""What the docker runtime works out without an engine: configurations, addresses, history, the lock."""

import threading
import uuid
from datetime import UTC, datetime

import pytest

from linkspan.errors import ConfigError, RolloutConflict
from linkspan.nouns import ModelFile, Revision, sha256
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker import plan
from linkspan.runtimes.docker.files import KEEP, history_of
from linkspan.runtimes.docker.lock import is_locked, locked
from linkspan.runtimes.docker.nginx import Live, read_live, switch_conf, whole
from tests.runtimes.releases import release, rollout

SERVICE = Service(app="digits", environment="production")
IMAGE = sha256(b"image")


def revision(number: int, *, failed: bool = False, cause: str = "test") -> Revision:
    made = Revision(
        number=number,
        release=release("digits", f"v{number}", IMAGE),
        cause=cause,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return made.with_outcome("failed", "it did not start") if failed else made


def live(number: int = 7, cause: str = "test") -> Live:
    return Live(
        revision=revision(number, cause=cause),
        spec=sha256(b"spec"),
        addresses=("172.18.0.16", "172.18.0.17"),
        port=8080,
        ready_path="/readyz",
        request_seconds=12.5,
    )


@pytest.mark.parametrize("cause", ["push by Ada", "ça; }} \n# linkspan end\n\\", "x" * 10_000])
def test_the_configuration_holds_what_is_live(cause: str) -> None:
    conf = switch_conf(live(cause=cause))
    assert read_live(conf) == live(cause=cause)
    assert "server 172.18.0.17:8080 " in conf
    assert max(map(len, conf.splitlines())) < 4096, "nginx would refuse it"
    assert all(line.startswith("#") or cause[:20] not in line for line in conf.splitlines())


def test_a_model_of_many_files_fits() -> None:
    many = live()
    files = tuple(ModelFile(path=f"shard-{n}", size=n, sha256="a" * 64) for n in range(500))
    model = many.revision.release.model.model_copy(update={"files": files})
    changed = many.revision.release.model_copy(update={"model": model})
    many = many.model_copy(update={"revision": many.revision.model_copy(update={"release": changed})})
    assert read_live(switch_conf(many)) == many


def test_nothing_live_is_a_configuration_too() -> None:
    conf = switch_conf(None)
    assert read_live(conf) is None
    assert whole(conf)
    assert "return 503" in conf


def test_half_a_file_is_seen() -> None:
    conf = switch_conf(live())
    assert whole(conf)
    assert not any(whole(conf[:length]) for length in range(0, len(conf) - 1, 50))


def test_the_marker_changes_with_what_is_live() -> None:
    assert live(7).marker != live(8).marker
    assert live(7).marker in switch_conf(live(7))
    revision = live(7).revision
    pinned = live(7).model_copy(update={"revision": revision.model_copy(update={"pinned": True})})
    assert pinned.marker == live(7).marker, "nginx is not reloaded for it"
    assert read_live(switch_conf(pinned)) == pinned


def test_addresses_of_successive_revisions_differ() -> None:
    for subnet in ("172.18.0.0/16", "192.168.16.0/20", "10.9.8.0/24"):
        old: tuple[str, ...] = ()
        for number in range(1, 300):
            new = plan.replica_addresses(subnet, number, 64, old)
            assert len(set(new)) == 64
            assert not {plan.proxy_address(subnet), *old} & set(new)
            # Failed revisions come between: what is live keeps its addresses for long.
            old = new if number % 5 == 0 else old


def test_a_network_that_is_too_small() -> None:
    with pytest.raises(ConfigError, match="default-address-pools"):
        plan.replica_addresses("10.0.0.0/28", 1, 2, ())


def test_the_same_release_has_the_same_spec_under_another_host() -> None:
    one = rollout(SERVICE, "v1", IMAGE)
    assert plan.spec_of(one) == plan.spec_of(one.model_copy(update={"image": "other/digits@" + IMAGE}))
    assert plan.spec_of(one) == plan.spec_of(one.model_copy(update={"cause": "other", "pinned": True}))
    for change in ({"replicas": 3}, {"env": {"A": "b"}}, {"memory": "1g"}, {"port": 1}):
        assert plan.spec_of(one) != plan.spec_of(one.model_copy(update=change)), change


def test_history_says_what_became_of_each() -> None:
    kept = [revision(1), revision(2, failed=True), revision(3), revision(4, failed=True), revision(5)]
    found = history_of(revision(3), kept)
    assert [(each.number, each.outcome) for each in found] == [
        (4, "failed"),
        (3, "live"),
        (2, "failed"),
        (1, "replaced"),
    ], "revision 5 was killed before it had traffic"
    assert [each.number for each in history_of(None, kept)] == [4, 2]
    assert len(history_of(revision(99), map(revision, range(1, 100)))) == KEEP


def test_the_lock_is_held_by_one(tmp_path: object) -> None:
    name = f"test-{uuid.uuid4().hex}"
    said: list[str] = []
    assert not is_locked(name)
    with locked(name, seconds=1, say=said.append):
        assert is_locked(name)
        with (
            pytest.raises(RolloutConflict, match=r"did not end within 0\.2 s"),
            locked(name, seconds=0.2, say=said.append),
        ):
            pytest.fail("two hold it")
    assert not is_locked(name)
    assert said == [f"waiting for another rollout of {name} to end"]


def test_the_lock_is_waited_for() -> None:
    name = f"test-{uuid.uuid4().hex}"
    waiting, order = threading.Event(), list[str]()

    def second() -> None:
        with locked(name, seconds=10, say=lambda _: waiting.set()):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(name, seconds=1, say=order.append):
        thread.start()
        assert waiting.wait(240)
        order.append("first")
    thread.join(240)
    assert order == ["first", "second"]
