"""From the newest pair to a running release: plan, link, make it a release, roll it out.

The order is the promise: the candidate's manifest goes to the registry by digest only, so that the engine can
pull exactly what will be deployed; the tag that makes it a release is put after the smoke test; nothing is
deployed before that. Each step may be repeated after any interruption.
"""

import contextlib
from collections.abc import Callable

from linkspan.config import AppConfig
from linkspan.errors import LinkspanError, RegistryError, RegistryNotFound, RolloutFailed
from linkspan.ledger import series
from linkspan.ledger.labels import mounted_by, read_code_image
from linkspan.ledger.tags import mounted_tag, rejection_key, release_tag
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.ledger.verdicts import note, pardon, rejection
from linkspan.nouns import Release, Revision, short
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.registry.media import Image
from linkspan.release.converge import Decision, decide
from linkspan.release.pair import chosen, linked
from linkspan.release.plan import Candidate, Plan, mount_of
from linkspan.runtimes.base import Rollout, Runtime, Service

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
    candidate = chosen(registry, runtime, service, code, packaged, live, say=say)
    refused = rejection(registry, rejection_key(candidate.release.image, environment))

    def decided(drift: str) -> Decision:
        return decide(candidate.release, live, drift=drift, rejection=refused, on_purpose=on_purpose, pin=pin)

    decision = decided("")
    if live and decision.action != "release":
        # Only then does it matter whether what is live is as it was: to look costs a cluster a dry run.
        decision = decided(runtime.drift(service, _replicas_of(registry, live, candidate, environment)))
    return Plan(decision=decision, candidate=candidate, live=live)


def push_candidate(
    registry: Registry, code: CodeImage, packaged: PackagedModel, *, mounted: bool = False
) -> int:
    """Put the candidate where an engine can pull it, by digest. Returns the bytes that had to be pushed."""
    pair = linked(registry, code, packaged, mounted=mounted)
    before = registry.sent
    if pair.mounted:
        _push_mounted(registry, pair.mounted)
    if registry.exists(pair.image.digest) is None:
        if pair.directories:
            registry.push_blob(pair.directories)
        registry.push_image(pair.image)
    return registry.sent - before


def _push_mounted(registry: Registry, image: Image) -> None:
    """Push a model's image, with the tag that keeps it."""
    digest, tag = image.digest, mounted_tag(image.digest)
    if registry.exists(digest) is None:
        registry.push_image(image)
    if (named := series.once(registry, digest, tag)) != digest:
        raise RegistryError(
            f"tag {tag} of {registry.name} names another image than a model's",
            expected=digest,
            found=named,
            fix="Delete that tag: it was put by hand",
        )


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
    rollout = rollout_of(candidate, environment).model_copy(
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

    Raises RegistryNotFound if the image, or the one that it mounts, has been deleted from the registry.
    """
    release = revision.release
    image = registry.image(release.image)
    code, mounted = read_code_image(image), mounted_by(image)
    if mounted and registry.exists(mounted) is None:
        raise RegistryNotFound(
            f"{registry.name} has not the model's image {short(mounted)} that {release.title} mounts",
            fix="Release the pair again on purpose: linkspan deploy",
        )
    candidate = Candidate(
        release=release,
        config=code.config,
        reference=f"{registry.name}@{release.image}",
        objects=code.objects,
        mount=mount_of(registry.name, mounted, release.model, code.config),
    )
    return rollout_of(candidate, environment).model_copy(
        update={"cause": revision.cause, "expect": revision.number, "pinned": revision.pinned}
    )


def service_of(config: AppConfig, environment: str) -> Service:
    """The service that the app is in an environment. Raises ConfigError if there is no such environment."""
    return Service(
        app=config.name, environment=environment, namespace=config.environment(environment).namespace
    )


def rollout_of(candidate: Candidate, environment: str) -> Rollout:
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
