"""From the newest pair to a running release: plan, link, make it a release, roll it out.

The order is the promise: the candidate's manifest goes to the registry by digest only, so that the engine can
pull exactly what will be deployed; the tag that makes it a release is put after the smoke test; nothing is
deployed before that. Each step may be repeated after any interruption.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from linkspan.code.mountpoint import mountpoint
from linkspan.config import AppConfig
from linkspan.errors import LinkspanError, RegistryNotFound, ReleaseError, RolloutFailed
from linkspan.ledger import series
from linkspan.ledger.labels import mounted_by, read_code_image
from linkspan.ledger.modelpack import files_of, read_modelpack
from linkspan.ledger.tags import mounted_tag, rejection_key, release_tag
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.ledger.verdicts import note, pardon, rejection
from linkspan.models.layer import directories
from linkspan.nouns import Release, Revision, sha256
from linkspan.progress import Say
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Image
from linkspan.release.converge import decide
from linkspan.release.link import link
from linkspan.release.mount import mount
from linkspan.release.plan import Candidate, Plan, mount_of, propose
from linkspan.runtimes.base import Rollout, Runtime, Service


class Pair(NamedTuple):
    """A candidate, its image, and what else must be in the registry for it, if anything.

    `directories` are the bytes of its layer of directories (models/layer.py), `mounted` is its model's image.
    """

    candidate: Candidate
    image: Image
    directories: bytes = b""
    mounted: Image | None = None


Refused = Callable[[str], None]
"""Told why a release is bad, once the registry has heard it."""


def _nobody(_: str) -> None: ...


def plan(
    registry: Registry,
    runtime: Runtime,
    code: CodeImage,
    packaged: PackagedModel,
    environment: str,
    *,
    on_purpose: bool = False,
    pin: bool = False,
    say: Say = _nobody,
) -> Plan:
    """Link the pair in memory, compare it with what is live, and decide (converge.py).

    Pushes nothing but what it had to read anew of the code's layers.
    """
    service = service_of(code.config, environment)
    live = runtime.live(service)
    candidate = _chosen(registry, runtime, service, code, packaged, live, say)
    decision = decide(
        candidate.release,
        live,
        drift=runtime.drift(service, _replicas_of(registry, live, candidate, environment)) if live else "",
        rejection=rejection(registry, rejection_key(candidate.release.image, environment)),
        on_purpose=on_purpose,
        pin=pin,
    )
    return Plan(decision=decision, candidate=candidate, live=live)


def _chosen(
    registry: Registry,
    runtime: Runtime,
    service: Service,
    code: CodeImage,
    packaged: PackagedModel,
    live: Revision | None,
    say: Say,
) -> Candidate:
    """The pair, linked or mounted. Raises ReleaseError where it must be mounted and cannot."""
    mounts, why_not = mounts_model(code.config, runtime, service)
    candidate = linked(registry, code, packaged, mounted=mounts, say=say).candidate
    free = mounts and code.config.model.mount == "auto"
    if free and live and live.release.image != candidate.release.image:
        # What is live is not replaced by the same pair only because its cluster can mount now.
        layered = linked(registry, code, packaged, say=say).candidate
        candidate = layered if live.release.image == layered.release.image else candidate
    return candidate.model_copy(update={"unmounted": why_not})


def mounts_model(config: AppConfig, runtime: Runtime, service: Service) -> tuple[bool, str]:
    """Whether releases mount their model, as linkspan.toml says or else the runtime would; and why not.

    Raises ReleaseError where they must and cannot.
    """
    wanted = config.model.mount
    if wanted == "layers":
        return False, ""
    offer = runtime.mounting()
    if wanted == "image" and not offer.possible:
        raise ReleaseError(
            f"{service} cannot mount the image of model {config.model.name}",
            expected="a runtime that can, as model.mount in linkspan.toml is `image`",
            found=offer.reason,
            fix="Set model.mount to `auto` or `layers`",
        )
    mounts = wanted == "image" or offer.chosen
    return mounts, "" if mounts else offer.reason


def linked(
    registry: Registry,
    code: CodeImage,
    packaged: PackagedModel,
    *,
    mounted: bool = False,
    say: Say = _nobody,
) -> Pair:
    """The pair as a candidate, from a few small reads; `say` hears if layers must be read first.

    `mounted`: the model is not among its layers, but an image of its own (mount.py).
    """
    model, folder = packaged.model, code.config.model.path
    _, layers = read_modelpack(registry.image(packaged.manifest))
    image = registry.image(code.digest)
    found = mountpoint(registry, image, folder, say=say)
    paths: list[str] = []
    if any(path.startswith(f"{folder}/") for path in found.directories):
        paths = [file.path for file in files_of(registry, model)]
    if mounted:
        release = mount(image, code, model, layers, found=found, paths=paths)
        return Pair(propose(registry.name, code, model, release), release.image, mounted=release.mounted)
    tar = directories(found.directories)
    restored = media.model_layer(sha256(tar), len(tar)) if tar else None
    release = link(image, code, model, layers, found=found, paths=paths, directories=restored)
    return Pair(propose(registry.name, code, model, release), release.image, tar)


def push_candidate(
    registry: Registry, code: CodeImage, packaged: PackagedModel, *, mounted: bool = False
) -> int:
    """Put the candidate where an engine can pull it, by digest. Returns the bytes that had to be pushed."""
    pair = linked(registry, code, packaged, mounted=mounted)
    before = registry.sent
    if pair.mounted and registry.exists(tag := mounted_tag(pair.mounted.digest)) is None:
        series.once(registry, registry.push_image(pair.mounted), tag)
    if registry.exists(pair.image.digest) is None:
        if pair.directories:
            registry.push_blob(pair.directories)
        registry.push_image(pair.image)
    return registry.sent - before


def confirm(registry: Registry, release: Release) -> str:
    """Make a tested candidate a release: put its tag, last of all. Returns the tag."""
    tag = release_tag(release)
    series.once(registry, release.image, tag)
    return tag


def roll_out(
    registry: Registry,
    runtime: Runtime,
    planned: Plan,
    environment: str,
    *,
    cause: str,
    run: str = "",
    pin: bool = False,
    say: Say,
    refused: Refused = _nobody,
) -> Revision:
    """Replace what is live without a failed request.

    Raises RolloutFailed, and remembers it if the release is to blame; RolloutConflict if another is live than
    when it was planned.
    """
    candidate = planned.candidate
    rollout = _rollout_of(candidate, environment).model_copy(
        update={
            "cause": cause,
            "run": run,
            "pinned": pin,
            "expect": planned.live.number if planned.live else 0,
        }
    )
    live = runtime.live(rollout.service)
    # A try before this one, or another run, may have got as far as the switch: then it is finished, not a
    # conflict. But a pin that somebody set meanwhile stays.
    if live is not None and live.release.image == candidate.release.image and (pin or not live.pinned):
        rollout = rollout.model_copy(update={"expect": live.number})
    try:
        revision = runtime.roll_out(rollout, say=say)
    except RolloutFailed as error:
        # Only what was tried and did not become ready is at fault, not what could not even be started.
        newest = next(iter(runtime.history(rollout.service)), None)
        if newest and newest.outcome == "failed" and newest.release.image == candidate.release.image:
            refuse(registry, candidate.release, environment, error, refused, say=say)
        raise
    pardon(registry, rejection_key(candidate.release.image, environment))
    return revision


def repair(registry: Registry, runtime: Runtime, live: Revision, environment: str, *, say: Say) -> Revision:
    """Bring what is live back to how it was rolled out."""
    return runtime.roll_out(again(registry, live, environment), say=say)


def again(registry: Registry, revision: Revision, environment: str) -> Rollout:
    """What puts an earlier revision back, from its image in the registry: nothing is built or pushed.

    Raises RegistryNotFound if the image has been deleted from the registry meanwhile.
    """
    release = revision.release
    image = registry.image(release.image)
    code = read_code_image(image)
    candidate = Candidate(
        release=release,
        config=code.config,
        reference=f"{registry.name}@{release.image}",
        objects=code.objects,
        mount=mount_of(registry.name, mounted_by(image), release.model, code.config),
    )
    return _rollout_of(candidate, environment).model_copy(
        update={"cause": revision.cause, "expect": revision.number, "pinned": revision.pinned}
    )


def service_of(config: AppConfig, environment: str) -> Service:
    """The service that the app is in an environment. Raises ConfigError if there is no such environment."""
    return Service(
        app=config.name, environment=environment, namespace=config.environment(environment).namespace
    )


def _rollout_of(candidate: Candidate, environment: str) -> Rollout:
    """What the runtime is asked for, by the app's own linkspan.toml and k8s/ as they were in that release."""
    config = candidate.config
    where = config.environment(environment)
    return Rollout(
        service=service_of(config, environment),
        release=candidate.release,
        image=candidate.reference,
        mount=candidate.mount,
        cause="",
        replicas=where.replicas,
        env=where.env,
        memory=where.memory,
        cpu=where.cpu,
        host=where.host,
        objects=candidate.objects,
        port=config.serve.port,
        ready_path=config.serve.ready_path,
        ready_seconds=config.serve.ready_seconds,
        request_seconds=config.serve.request_seconds,
    )


def _replicas_of(registry: Registry, live: Revision, wanted: Candidate, environment: str) -> int:
    """How many replicas the live revision was rolled out with, by its own linkspan.toml.

    That of `wanted` is taken if they are the same, or if the live image has been deleted from the registry.
    """
    config = wanted.config
    if live.release.image != wanted.release.image:
        with contextlib.suppress(RegistryNotFound):
            config = read_code_image(registry.image(live.release.image)).config
    return config.environment(environment).replicas


def refuse(
    registry: Registry,
    release: Release,
    environment: str,
    error: LinkspanError,
    refused: Refused,
    *,
    say: Say,
) -> None:
    """Remember that a release is bad in an environment, and tell `refused`."""
    if note(registry, rejection_key(release.image, environment), release.title, error, say=say):
        refused(str(error))
