"""From the newest pair to a running release: link, push a candidate, make it a release, roll it out.

The order is the promise: the candidate's manifest goes to the registry by digest only, so that the engine can
pull exactly what will be deployed; the tag that makes it a release is put after the smoke test; nothing is
deployed before that.
"""

import contextlib
from collections.abc import Sequence

from linkspan.config import AppConfig
from linkspan.errors import RegistryNotFound
from linkspan.ledger.labels import read_code_image, read_objects
from linkspan.ledger.modelpack import read_modelpack
from linkspan.ledger.tags import release_tag
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.nouns import Noun, Release, Revision
from linkspan.registry.client import Registry
from linkspan.registry.media import Image
from linkspan.release.link import link
from linkspan.runtimes.base import KubeObject, Rollout, Service


class Candidate(Noun):
    """A linked pair, before anybody tried it. `reference` is the image by digest, as an engine pulls it.

    `manifests` are the app's own Kubernetes objects, if it has any.
    """

    release: Release
    config: AppConfig
    reference: str
    objects: tuple[KubeObject, ...] = ()


def propose(registry: Registry, code: CodeImage, packaged: PackagedModel) -> tuple[Candidate, Image]:
    """Link the pair in memory: a few small reads, nothing is pushed. The same pair is the same digest."""
    image = registry.image(code.digest)
    _, config = read_code_image(image)
    _, layer = read_modelpack(registry.image(packaged.manifest))
    linked = link(image, packaged.model, layer, config.model.path)
    release = Release(app=config.name, commit=code.commit, model=packaged.model, image=linked.digest)
    candidate = Candidate(
        release=release,
        config=config,
        reference=f"{registry.name}@{linked.digest}",
        objects=read_objects(image),
    )
    return candidate, linked


def push_candidate(registry: Registry, linked: Image) -> int:
    """Put the candidate where an engine can pull it, by digest. Returns the bytes that had to be pushed."""
    before = registry.sent
    if registry.exists(linked.digest) is None:
        registry.push_image(linked)
    return registry.sent - before


def confirm(registry: Registry, release: Release) -> str:
    """Make a tested candidate a release: put its tag, last of all. Returns the tag."""
    tag = release_tag(release)
    if registry.exists(tag) != release.image:
        registry.tag(release.image, tag)
    return tag


def service_of(config: AppConfig, environment: str) -> Service:
    """The service that the app is in an environment. Raises ConfigError if there is no such environment."""
    return Service(
        app=config.name, environment=environment, namespace=config.environment(environment).namespace
    )


def rollout_of(
    release: Release,
    config: AppConfig,
    *,
    reference: str,
    objects: Sequence[KubeObject],
    environment: str,
    cause: str,
    expect: int,
    run: str = "",
    pinned: bool = False,
) -> Rollout:
    """What the runtime is asked for, by the app's own linkspan.toml and k8s/ as they were in that release."""
    where = config.environment(environment)
    return Rollout(
        service=service_of(config, environment),
        release=release,
        image=reference,
        cause=cause,
        run=run,
        replicas=where.replicas,
        env=where.env,
        memory=where.memory,
        cpu=where.cpu,
        host=where.host,
        objects=tuple(objects),
        port=config.serve.port,
        ready_path=config.serve.ready_path,
        ready_seconds=config.serve.ready_seconds,
        request_seconds=config.serve.request_seconds,
        expect=expect,
        pinned=pinned,
    )


def again(registry: Registry, revision: Revision, environment: str) -> Rollout:
    """What puts an earlier revision back, from its image in the registry: nothing is built or pushed.

    Raises RegistryNotFound if the image has been deleted from the registry meanwhile.
    """
    release = revision.release
    image = registry.image(release.image)
    _, config = read_code_image(image)
    return rollout_of(
        release,
        config,
        reference=f"{registry.name}@{release.image}",
        objects=read_objects(image),
        environment=environment,
        cause=revision.cause,
        expect=revision.number,
        pinned=revision.pinned,
    )


def replicas_of(registry: Registry, live: Revision, wanted: Candidate, environment: str) -> int:
    """How many replicas the live revision was rolled out with, by its own linkspan.toml.

    That of `wanted` is taken if they are the same, or if the live image has been deleted from the registry.
    """
    config = wanted.config
    if live.release.image != wanted.release.image:
        with contextlib.suppress(RegistryNotFound):
            _, config = read_code_image(registry.image(live.release.image))
    return config.environment(environment).replicas
