"""From a pair to a release in a real registry: what is pushed when, and what puts it back."""

import pytest

from linkspan.config import EnvironmentSection
from linkspan.errors import ConfigError, RegistryNotFound
from linkspan.ledger.labels import code_labels
from linkspan.ledger.modelpack import modelpack
from linkspan.ledger.tags import rejection_key, release_tag
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.registry.client import Registry
from linkspan.release.candidate import (
    again,
    confirm,
    propose,
    push_candidate,
    replicas_of,
    rollout_of,
    service_of,
)
from tests.registry.images import CODE_LAYER, COMMIT, CONFIG, a_code_image, a_layer, a_model, read_release
from tests.services.registry import CountingProxy
from tests.values import revision

LAYER = b"the model's layer"
OTHER = "sha256:" + "1" * 64


@pytest.fixture
def pair(app_registry: Registry) -> tuple[CodeImage, PackagedModel]:
    """A tested code image and a packaged model."""
    return pushed(app_registry)


def pushed(registry: Registry, labels: dict[str, str] | None = None) -> tuple[CodeImage, PackagedModel]:
    for blob in (CODE_LAYER, LAYER):
        registry.push_blob(blob)
    code = registry.push_image(a_code_image(labels=labels), tag="code-1")
    model = a_model()
    manifest = registry.push_image(modelpack(model, a_layer(LAYER)), tag="model-digits-v12")
    image = CodeImage(commit=COMMIT, config=CONFIG, digest=code)
    return image, PackagedModel(model=model, manifest=manifest)


def test_a_proposal_pushes_nothing_and_is_the_same_every_time(
    app_registry: Registry, pair: tuple[CodeImage, PackagedModel], counting_proxy: CountingProxy
) -> None:
    counting_proxy.reset()
    candidate, linked = propose(app_registry, *pair)
    assert counting_proxy.sent == 0
    assert counting_proxy.received < 64_000
    assert not any("/blobs/uploads" in exchange.path for exchange in counting_proxy.exchanges)
    assert propose(app_registry, *pair) == (candidate, linked)
    assert candidate.release.image == linked.digest
    assert candidate.reference == f"{app_registry.name}@{linked.digest}"
    assert candidate.release.title == "digits: 3fa9c1d + v12"


def test_a_candidate_is_no_release_until_its_tag_is_put(
    app_registry: Registry, pair: tuple[CodeImage, PackagedModel], counting_proxy: CountingProxy
) -> None:
    candidate, linked = propose(app_registry, *pair)
    tags = sorted(app_registry.tags())
    pushed = push_candidate(app_registry, linked)
    assert 0 < pushed < 64_000
    assert app_registry.exists(linked.digest) == linked.digest
    assert sorted(app_registry.tags()) == tags
    assert push_candidate(app_registry, linked) == 0

    tag = confirm(app_registry, candidate.release)
    assert tag == release_tag(candidate.release)
    assert app_registry.exists(tag) == linked.digest
    assert read_release(app_registry.image(tag)) == candidate.release
    counting_proxy.reset()
    assert confirm(app_registry, candidate.release) == tag
    assert counting_proxy.sent == 0


def test_a_rollout_is_what_the_app_says_of_its_environment(
    app_registry: Registry, pair: tuple[CodeImage, PackagedModel]
) -> None:
    candidate, _ = propose(app_registry, *pair)
    rollout = rollout_of(
        candidate.release,
        candidate.config,
        reference=candidate.reference,
        objects=candidate.objects,
        environment="production",
        cause="a push",
        expect=6,
        run="brave-otter",
    )
    assert str(rollout.service) == "digits-production"
    assert (rollout.replicas, rollout.env) == (3, {"A": "b=c"})
    assert (rollout.run, rollout.cpu, rollout.host, rollout.service.namespace) == ("brave-otter", "", "", "")
    assert rollout.objects == ()
    assert (rollout.image, rollout.expect, rollout.pinned) == (candidate.reference, 6, False)
    assert (rollout.port, rollout.ready_path) == (CONFIG.serve.port, CONFIG.serve.ready_path)
    with pytest.raises(ConfigError, match="no environment 'staging'"):
        rollout_of(
            candidate.release,
            candidate.config,
            reference="x",
            objects=(),
            environment="staging",
            cause="",
            expect=0,
        )


def test_a_rollout_has_what_a_cluster_needs(app_registry: Registry) -> None:
    """In a run, and when an earlier release is put back: both from the image's labels alone."""
    manifests = ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},)
    where = EnvironmentSection(cpu="500m", memory="1g", host="digits.example", namespace="team")
    config = CONFIG.model_copy(update={"environments": {"production": where}})
    code, packaged = pushed(app_registry, labels=code_labels("digits", COMMIT, config, manifests))
    candidate, linked = propose(app_registry, code, packaged)
    assert candidate.objects == manifests
    push_candidate(app_registry, linked)
    rollouts = (
        rollout_of(
            candidate.release,
            candidate.config,
            reference=candidate.reference,
            objects=candidate.objects,
            environment="production",
            cause="a push",
            expect=4,
        ),
        again(app_registry, revision(4, candidate.release), "production"),
    )
    for rollout in rollouts:
        assert rollout.objects == manifests
        assert (rollout.cpu, rollout.memory, rollout.host) == ("500m", "1g", "digits.example")
        assert rollout.service == service_of(config, "production")
        assert rollout.service.namespace == "team"


def test_again_needs_the_registry_only(
    app_registry: Registry, pair: tuple[CodeImage, PackagedModel], counting_proxy: CountingProxy
) -> None:
    candidate, linked = propose(app_registry, *pair)
    push_candidate(app_registry, linked)
    old = revision(4, candidate.release, pinned=True)
    counting_proxy.reset()
    rollout = again(app_registry, old, "production")
    assert counting_proxy.sent == 0
    assert (rollout.image, rollout.release) == (candidate.reference, candidate.release)
    assert (rollout.expect, rollout.pinned, rollout.cause) == (4, True, old.cause)
    assert rollout.replicas == 3

    # What is live goes by its own linkspan.toml, while its image is there.
    two = CONFIG.model_copy(update={"environments": {"production": EnvironmentSection(replicas=2)}})
    newer = candidate.model_copy(
        update={"config": two, "release": candidate.release.model_copy(update={"image": OTHER})}
    )
    assert replicas_of(app_registry, old, newer, "production") == 3
    assert app_registry.delete_manifest(linked.digest)
    with pytest.raises(RegistryNotFound):
        again(app_registry, old, "production")
    assert replicas_of(app_registry, old, newer, "production") == 2


def test_a_verdict_is_on_an_image_in_an_environment() -> None:
    one = "sha256:" + "2" * 64
    keys = {rejection_key(image, where) for image in (one, OTHER) for where in ("production", "staging")}
    assert len(keys) == 4
