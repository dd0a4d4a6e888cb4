"""The two halves, read from the registry, as a candidate: linked or mounted (link.py, mount.py)."""

from collections.abc import Sequence
from typing import NamedTuple

from linkspan.code.mountpoint import mountpoint
from linkspan.config import AppConfig
from linkspan.errors import ReleaseError
from linkspan.ledger.modelpack import files_of, read_modelpack
from linkspan.ledger.values import CodeImage, MountPoint, PackagedModel
from linkspan.models.layer import directories
from linkspan.nouns import Layer, Model, Revision, sha256
from linkspan.progress import Say
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Document, Image
from linkspan.release.link import link
from linkspan.release.mount import mount
from linkspan.release.plan import Candidate, propose
from linkspan.runtimes.base import Mounting, Runtime, Service


class Pair(NamedTuple):
    """A candidate, its image, and what else must be in the registry for it, if anything.

    `directories` are the bytes of its layer of directories (models/layer.py), `mounted` is its model's image.
    """

    candidate: Candidate
    image: Image
    directories: bytes = b""
    mounted: Image | None = None


class _Halves(NamedTuple):
    """What a few small reads of the registry give of both: arguments of `link` and `mount`."""

    image: Image
    layers: tuple[Layer, ...]
    found: MountPoint
    paths: list[str]


def linked(
    registry: Registry,
    code: CodeImage,
    packaged: PackagedModel,
    *,
    mounted: bool = False,
    say: Say = lambda _: None,
) -> Pair:
    """The pair as a candidate; `say` hears if layers of the code must be read first.

    `mounted`: the model is not among its layers, but an image of its own.
    """
    halves = _read(registry, code, packaged, say)
    return _joined(registry.name, code, packaged.model, halves, mounted=mounted)


def chosen(
    registry: Registry,
    runtime: Runtime,
    service: Service,
    code: CodeImage,
    packaged: PackagedModel,
    live: Revision | None,
    *,
    say: Say,
) -> Candidate:
    """The pair, linked or mounted, as `mounts_model` says, whose errors it raises.

    If either will do, what is live is not replaced by the same pair in the other form: only because its
    cluster can mount now, or because nobody may ask any more.
    """
    mounts, offer = mounts_model(code.config, code.objects, runtime, service)
    halves = _read(registry, code, packaged, say)
    candidate = _joined(registry.name, code, packaged.model, halves, mounted=mounts).candidate
    free = code.config.model.mount == "auto" and offer.places in {"all", "unknown"}
    if free and live and live.release.image != candidate.release.image:
        other = _joined(registry.name, code, packaged.model, halves, mounted=not mounts).candidate
        candidate = other if live.release.image == other.release.image else candidate
    return candidate if candidate.mount else candidate.model_copy(update={"unmounted": offer.reason})


def mounts_model(
    config: AppConfig, objects: Sequence[Document], runtime: Runtime, service: Service
) -> tuple[bool, Mounting]:
    """Whether new releases mount their model, as linkspan.toml says or else the runtime offers.

    `objects` are the app's own. Raises ReleaseError where they must and cannot.
    """
    wanted = config.model.mount
    if wanted == "layers":
        return False, Mounting("none")
    offer = runtime.mounting(config.model.path, objects)
    if wanted == "image" and offer.places == "none":
        raise ReleaseError(
            f"{service} cannot mount the image of model {config.model.name}",
            expected="a runtime that can, as model.mount in linkspan.toml is `image`",
            found=offer.reason,
            fix="Mend that, or set model.mount to `layers`",
        )
    return wanted == "image" or offer.places == "all", offer


def _read(registry: Registry, code: CodeImage, packaged: PackagedModel, say: Say) -> _Halves:
    folder = code.config.model.path
    _, layers = read_modelpack(registry.image(packaged.manifest))
    image = registry.image(code.digest)
    found = mountpoint(registry, image, folder, say=say)
    paths: list[str] = []
    if any(path.startswith(f"{folder}/") for path in found.directories):
        paths = [file.path for file in files_of(registry, packaged.model)]
    return _Halves(image, layers, found, paths)


def _joined(repository: str, code: CodeImage, model: Model, of: _Halves, *, mounted: bool) -> Pair:
    if mounted:
        release = mount(of.image, code, model, of.layers, found=of.found, paths=of.paths)
        return Pair(propose(repository, code, model, release), release.image, mounted=release.mounted)
    tar = directories(of.found.directories)
    restored = media.model_layer(sha256(tar), len(tar)) if tar else None
    release = link(of.image, code, model, of.layers, found=of.found, paths=of.paths, directories=restored)
    return Pair(propose(repository, code, model, release), release.image, tar)
