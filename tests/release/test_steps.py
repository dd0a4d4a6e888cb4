"""From a pair to a release in a real registry: what is planned, what is pushed when, what puts it back."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest

from linkspan.config import EnvironmentSection
from linkspan.errors import (
    ConfigError,
    RegistryError,
    RegistryNotFound,
    ReleaseError,
    RolloutConflict,
    RolloutFailed,
)
from linkspan.ledger.labels import MOUNTED, code_labels
from linkspan.ledger.modelpack import modelpack
from linkspan.ledger.tags import mounted_tag, rejection_key, release_tag
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.ledger.verdicts import rejection
from linkspan.nouns import Release, Revision, listing
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.release.pair import linked
from linkspan.release.plan import Plan
from linkspan.release.steps import again, confirm, plan, push_candidate, repair, roll_out, service_of
from linkspan.runtimes.base import (
    KubeObject,
    Later,
    Mounting,
    Rollout,
    Runtime,
    Service,
    Trial,
    at_once,
    check_expected,
)
from tests.registry.images import (
    CODE_LAYER,
    COMMIT,
    CONFIG,
    FILES,
    a_code_image,
    a_layer,
    a_model,
    read_release,
)
from tests.services.registry import CountingProxy
from tests.values import release, revision

LAYER = b"the model's layer"
OTHER = "sha256:" + "1" * 64
TOO_OLD = Mounting("some", "a node is too old")
Pair = tuple[CodeImage, PackagedModel]


@dataclass
class Remembering:
    """A runtime that starts nothing and remembers all: its revisions, and what it was asked for."""

    revisions: list[Revision] = field(default_factory=list)
    drifted: str = ""
    fails: str = ""
    asked: list[Rollout] = field(default_factory=list)
    counted: int = 0
    offer: Mounting = TOO_OLD

    def live(self, service: Service) -> Revision | None:
        return next((each for each in self.revisions if each.outcome == "live"), None)

    def trial(self, rollout: Rollout, *, say: Say, later: Later = at_once) -> AbstractContextManager[Trial]:
        raise NotImplementedError

    def history(self, service: Service) -> list[Revision]:
        return list(self.revisions)

    def drift(self, service: Service, replicas: int) -> str:
        self.counted = replicas
        return self.drifted

    def roll_out(self, rollout: Rollout, *, say: Say) -> Revision:
        self.asked.append(rollout)
        check_expected(rollout, self.live(rollout.service))
        if self.fails == "at once":
            raise RolloutFailed("the port is taken")
        number = max((each.number for each in self.revisions), default=0) + 1
        made = revision(number, rollout.release, cause=rollout.cause, run=rollout.run, pinned=rollout.pinned)
        if self.fails:
            self.revisions.insert(0, made.with_outcome("failed", self.fails))
            raise RolloutFailed("it did not become ready", found=self.fails)
        self.revisions = [made, *(each.with_outcome("replaced") for each in self.revisions)]
        return made

    def mounting(self, path: str, objects: Sequence[KubeObject]) -> Mounting:
        return self.offer

    def refresh(self, service: Service) -> None: ...

    def revision_of(self, service: Service, replica: str) -> int | None:
        return None

    def url(self, service: Service) -> str:
        return "http://127.0.0.1:1"

    def destroy(self, service: Service) -> None: ...


@pytest.fixture
def runtime() -> Remembering:
    return Remembering()


@pytest.fixture
def pair(app_registry: Registry) -> Pair:
    """A tested code image and a packaged model."""
    return pushed(app_registry)


def pushed(registry: Registry, labels: dict[str, str] | None = None, **code: Any) -> Pair:
    for blob in (CODE_LAYER, LAYER):
        registry.push_blob(blob)
    digest = registry.push_image(a_code_image(labels=labels))
    model = a_model()
    registry.push_blob(listing(FILES))
    manifest = registry.push_image(modelpack(model, FILES, [a_layer(LAYER)]))
    image = CodeImage(**{"commit": COMMIT, "config": CONFIG, **code}, digest=digest)
    return image, PackagedModel(model=model, manifest=manifest)


def test_a_plan_pushes_nothing_and_is_the_same_every_time(
    app_registry: Registry, pair: Pair, runtime: Remembering, counting_proxy: CountingProxy
) -> None:
    linked(app_registry, *pair)  # as app-stream has read the layers before the commit counts as tested
    counting_proxy.reset()
    planned = plan(app_registry, runtime, *pair, "production")
    assert counting_proxy.sent == 0
    assert counting_proxy.received < 64_000
    assert not any("/blobs/uploads" in exchange.path for exchange in counting_proxy.exchanges)
    assert plan(app_registry, runtime, *pair, "production") == planned
    candidate = planned.candidate
    image = linked(app_registry, *pair).image
    assert candidate.release.image == image.digest
    assert candidate.reference == f"{app_registry.name}@{image.digest}"
    assert candidate.release.title == "digits: 3fa9c1d + v12"
    assert (planned.decision.action, planned.live) == ("release", None)


def test_a_candidate_is_no_release_until_its_tag_is_put(
    app_registry: Registry, pair: Pair, counting_proxy: CountingProxy
) -> None:
    candidate, image, *_ = linked(app_registry, *pair)
    tags = sorted(app_registry.tags())
    cost = push_candidate(app_registry, *pair)
    assert 0 < cost < 64_000
    assert app_registry.exists(image.digest) == image.digest
    assert sorted(app_registry.tags()) == tags
    assert push_candidate(app_registry, *pair) == 0

    tag = confirm(app_registry, candidate.release)
    assert tag == release_tag(candidate.release)
    assert app_registry.exists(tag) == image.digest
    assert read_release(app_registry.image(tag)) == candidate.release
    counting_proxy.reset()
    assert confirm(app_registry, candidate.release) == tag
    assert counting_proxy.sent == 0


def rolled_out(registry: Registry, runtime: Runtime, pair: Pair, **options: Any) -> Revision:
    planned = options.pop("planned", None) or plan(registry, runtime, *pair, "production")
    options = {"cause": "a push", "say": lambda _: None, **options}
    return roll_out(registry, runtime, planned, "production", **options)


def test_a_rollout_is_what_the_app_says_of_its_environment(
    app_registry: Registry, pair: Pair, runtime: Remembering
) -> None:
    runtime.revisions = [revision(6, another())]
    live = rolled_out(app_registry, runtime, pair, run="brave-otter")
    (rollout,) = runtime.asked
    candidate = linked(app_registry, *pair).candidate
    assert str(rollout.service) == "digits-production"
    assert (rollout.replicas, rollout.env) == (3, {"A": "b=c"})
    assert (rollout.run, rollout.cpu, rollout.host, rollout.service.namespace) == ("brave-otter", "", "", "")
    assert rollout.objects == ()
    assert (rollout.image, rollout.expect, rollout.pinned) == (candidate.reference, 6, False)
    assert (rollout.port, rollout.ready_path) == (CONFIG.serve.port, CONFIG.serve.ready_path)
    assert (live.number, live.cause, live.release) == (7, "a push", candidate.release)
    with pytest.raises(ConfigError, match="no environment 'staging'"):
        plan(app_registry, runtime, *pair, "staging")


def another() -> Release:
    return release(1, "v1").model_copy(update={"image": OTHER})


def test_a_rollout_has_what_a_cluster_needs(app_registry: Registry, runtime: Remembering) -> None:
    """In a run, and when an earlier release is put back: both from the image's labels alone."""
    objects = ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},)
    where = EnvironmentSection(cpu="500m", memory="1g", host="digits.example", namespace="team")
    config = CONFIG.model_copy(update={"environments": {"production": where}})
    labels = code_labels("digits", COMMIT, config, objects)
    pair = pushed(app_registry, labels=labels, config=config, objects=objects)
    push_candidate(app_registry, *pair)
    live = rolled_out(app_registry, runtime, pair)
    rollouts = (runtime.asked[0], again(app_registry, live, "production"))
    for rollout in rollouts:
        assert rollout.objects == objects
        assert (rollout.cpu, rollout.memory, rollout.host) == ("500m", "1g", "digits.example")
        assert rollout.service == service_of(config, "production")
        assert rollout.service.namespace == "team"


def test_again_needs_the_registry_only(
    app_registry: Registry, pair: Pair, runtime: Remembering, counting_proxy: CountingProxy
) -> None:
    candidate, image, *_ = linked(app_registry, *pair)
    push_candidate(app_registry, *pair)
    old = revision(4, candidate.release, pinned=True)
    counting_proxy.reset()
    rollout = again(app_registry, old, "production")
    assert counting_proxy.sent == 0
    assert (rollout.image, rollout.release) == (candidate.reference, candidate.release)
    assert (rollout.expect, rollout.pinned, rollout.cause) == (4, True, old.cause)
    assert rollout.replicas == 3

    # What is live goes by its own linkspan.toml, while its image is there.
    two = CONFIG.model_copy(update={"environments": {"production": EnvironmentSection(replicas=2)}})
    runtime.revisions = [old]
    newer = pushed(app_registry, labels=code_labels("digits", COMMIT, two), config=two)
    plan(app_registry, runtime, *newer, "production")
    assert runtime.counted == 3
    assert app_registry.delete_manifest(image.digest)
    with pytest.raises(RegistryNotFound):
        again(app_registry, old, "production")
    plan(app_registry, runtime, *newer, "production")
    assert runtime.counted == 2


def wanting(registry: Registry, mount: str) -> Pair:
    """A pair whose linkspan.toml says `model.mount`."""
    model = CONFIG.model.model_copy(update={"mount": mount})
    config = CONFIG.model_copy(update={"model": model})
    return pushed(registry, labels=code_labels("digits", COMMIT, config), config=config)


CAN, MAY, CANNOT = Mounting("all"), TOO_OLD, Mounting("none", "node a has containerd 1.7")
UNKNOWN = Mounting("unknown", "nobody may ask")


@pytest.mark.parametrize(
    ("wanted", "offer", "mounts", "why"),
    [
        ("auto", CAN, True, ""),
        ("auto", MAY, False, "a node is too old"),
        ("auto", CANNOT, False, "node a has containerd 1.7"),
        ("auto", UNKNOWN, False, "nobody may ask"),
        ("layers", CAN, False, ""),
        ("image", CAN, True, ""),
        ("image", MAY, True, ""),
        ("image", UNKNOWN, True, ""),
    ],
)
def test_the_model_is_mounted_as_the_app_says_or_the_runtime_would(
    app_registry: Registry, runtime: Remembering, wanted: str, offer: Mounting, mounts: bool, why: str
) -> None:
    runtime.offer = offer
    candidate = plan(app_registry, runtime, *wanting(app_registry, wanted), "production").candidate
    assert (candidate.mount is not None, candidate.unmounted) == (mounts, why)


def test_who_must_mount_and_cannot_is_told_why(app_registry: Registry, runtime: Remembering) -> None:
    runtime.offer = CANNOT
    with pytest.raises(ReleaseError, match="cannot mount the image of model digits") as caught:
        plan(app_registry, runtime, *wanting(app_registry, "image"), "production")
    assert caught.value.found == "node a has containerd 1.7"


def test_a_mounted_release_names_its_models_image_and_keeps_it(
    app_registry: Registry, runtime: Remembering, counting_proxy: CountingProxy
) -> None:
    """Until the link nothing is there, then all of it, under a tag; and the label is all a rollback needs."""
    runtime.offer = CAN
    pair = wanting(app_registry, "auto")
    planned = plan(app_registry, runtime, *pair, "production")
    mount = planned.candidate.mount
    assert mount is not None
    assert (mount.content, mount.path) == (pair[1].model.digest, "/model")
    digest = mount.image.removeprefix(f"{app_registry.name}@")
    assert app_registry.exists(digest) is None
    assert 0 < push_candidate(app_registry, *pair, mounted=True) < 64_000
    assert app_registry.exists(mounted_tag(digest)) == app_registry.exists(digest) == digest
    counting_proxy.reset()
    assert push_candidate(app_registry, *pair, mounted=True) == 0
    assert counting_proxy.sent == 0

    live = rolled_out(app_registry, runtime, pair, planned=planned)
    assert runtime.asked[-1].mount == mount
    assert again(app_registry, live, "production").mount == mount
    assert plan(app_registry, runtime, *pair, "production").decision.action == "nothing"


def test_a_rollback_needs_the_models_image_too(app_registry: Registry, runtime: Remembering) -> None:
    runtime.offer = CAN
    pair = wanting(app_registry, "auto")
    push_candidate(app_registry, *pair, mounted=True)
    live = rolled_out(app_registry, runtime, pair)
    mount = runtime.asked[-1].mount
    assert mount is not None
    assert app_registry.delete_manifest(mount.image.rpartition("@")[2])
    with pytest.raises(RegistryNotFound, match="has not the model's image"):
        again(app_registry, live, "production")


def test_a_tag_that_somebody_put_by_hand_is_told(app_registry: Registry) -> None:
    pair = wanting(app_registry, "image")
    mounted = linked(app_registry, *pair, mounted=True).mounted
    assert mounted is not None
    app_registry.tag(pair[0].digest, mounted_tag(mounted.digest))
    with pytest.raises(RegistryError, match="names another image than a model's"):
        push_candidate(app_registry, *pair, mounted=True)
    assert app_registry.exists(mounted.digest), "what is pulled by digest is there"


def test_a_dockerfile_says_nothing_of_what_is_mounted(app_registry: Registry, runtime: Remembering) -> None:
    labels = code_labels("digits", COMMIT, CONFIG) | {MOUNTED: OTHER}
    pair = pushed(app_registry, labels=labels)
    push_candidate(app_registry, *pair)
    live = rolled_out(app_registry, runtime, pair)
    assert runtime.asked[-1].mount is None
    assert again(app_registry, live, "production").mount is None


def test_what_is_live_is_not_replaced_only_because_its_cluster_can_mount_now(
    app_registry: Registry, runtime: Remembering
) -> None:
    pair = wanting(app_registry, "auto")
    live = rolled_out(app_registry, runtime, pair)
    runtime.offer = CAN
    planned = plan(app_registry, runtime, *pair, "production")
    assert (planned.decision.action, planned.candidate.release) == ("nothing", live.release)
    runtime.revisions = [revision(7, another())]
    assert plan(app_registry, runtime, *pair, "production").candidate.mount

    # Nor because nobody may ask any more. But with a node that cannot, the release must run there too.
    rolled_out(app_registry, runtime, pair)
    runtime.offer = UNKNOWN
    planned = plan(app_registry, runtime, *pair, "production")
    assert planned.decision.action == "nothing"
    assert planned.candidate.mount
    runtime.offer = MAY
    planned = plan(app_registry, runtime, *pair, "production")
    assert (planned.decision.action, planned.candidate.mount) == ("release", None)


def test_what_drifted_is_put_back_as_it_was(app_registry: Registry, pair: Pair, runtime: Remembering) -> None:
    push_candidate(app_registry, *pair)
    live = rolled_out(app_registry, runtime, pair)
    assert plan(app_registry, runtime, *pair, "production").decision.action == "nothing"
    runtime.drifted = "one replica is missing"
    planned = plan(app_registry, runtime, *pair, "production")
    assert (planned.decision.action, planned.live) == ("repair", live)
    repair(app_registry, runtime, live, "production", say=lambda _: None)
    assert runtime.asked[-1] == again(app_registry, live, "production")


def key_of(planned: Plan) -> str:
    return rejection_key(planned.candidate.release.image, "production")


def test_a_release_that_does_not_become_ready_is_remembered_told_and_held(
    app_registry: Registry, pair: Pair, runtime: Remembering
) -> None:
    told: list[str] = []
    runtime.fails = "it exits with 3"
    with pytest.raises(RolloutFailed, match="it exits with 3"):
        rolled_out(app_registry, runtime, pair, refused=told.append)
    planned = plan(app_registry, runtime, *pair, "production")
    assert planned.decision.action == "held"
    known = rejection(app_registry, key_of(planned))
    assert known is not None
    assert [known.reason] == told
    assert "it exits with 3" in known.reason

    runtime.fails = ""
    on_purpose = plan(app_registry, runtime, *pair, "production", on_purpose=True)
    rolled_out(app_registry, runtime, pair, planned=on_purpose)
    assert rejection(app_registry, key_of(planned)) is None, "it works: pardoned"


def test_what_could_not_even_be_tried_is_not_the_releases_fault(
    app_registry: Registry, pair: Pair, runtime: Remembering
) -> None:
    told: list[str] = []
    runtime.fails = "at once"
    planned = plan(app_registry, runtime, *pair, "production")
    with pytest.raises(RolloutFailed, match="port is taken"):
        rolled_out(app_registry, runtime, pair, planned=planned, refused=told.append)
    assert not told
    assert rejection(app_registry, key_of(planned)) is None


def test_a_try_that_got_as_far_as_the_switch_is_finished_and_anothers_release_is_a_conflict(
    app_registry: Registry, pair: Pair, runtime: Remembering
) -> None:
    planned = plan(app_registry, runtime, *pair, "production")
    rolled_out(app_registry, runtime, pair, planned=planned)
    rolled_out(app_registry, runtime, pair, planned=planned)
    assert [asked.expect for asked in runtime.asked] == [0, 1]

    runtime.revisions = [revision(9, another())]
    with pytest.raises(RolloutConflict):
        rolled_out(app_registry, runtime, pair, planned=planned)


def test_a_rollback_by_hand_meanwhile_is_a_conflict_though_it_is_to_the_same_pair(
    app_registry: Registry, pair: Pair, runtime: Remembering
) -> None:
    """Its pin would be lost: the run looks again, and finds it."""
    runtime.revisions = [revision(7, another())]
    planned = plan(app_registry, runtime, *pair, "production")
    runtime.revisions = [revision(8, planned.candidate.release, pinned=True), *runtime.revisions]
    with pytest.raises(RolloutConflict):
        rolled_out(app_registry, runtime, pair, planned=planned, run="brave-otter")
    assert runtime.revisions[0].pinned


def test_a_pinned_environment_is_left_alone_until_somebody_asks_on_purpose(
    app_registry: Registry, pair: Pair, runtime: Remembering
) -> None:
    runtime.revisions = [revision(3, another(), pinned=True)]
    assert plan(app_registry, runtime, *pair, "production").decision.action == "pinned"
    on_purpose = plan(app_registry, runtime, *pair, "production", on_purpose=True)
    assert on_purpose.decision.action == "release"


def test_a_verdict_is_on_an_image_in_an_environment() -> None:
    one = "sha256:" + "2" * 64
    keys = {rejection_key(image, where) for image in (one, OTHER) for where in ("production", "staging")}
    assert len(keys) == 4
