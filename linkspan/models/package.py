"""From a published model to validated layers in the registry, in one pass over its bytes.

The bytes go from the store to the registry and, when the model can be opened, to a scratch file besides; the
uploads are only committed after the model was opened and has scored. A model that is refused leaves nothing
behind, and a layer that is there already is not sent again; nor read, unless the model must be opened.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from linkspan.errors import ConfigError, DigestMismatch, LinkspanError, ModelError
from linkspan.ledger import series
from linkspan.ledger.modelpack import modelpack, read_modelpack
from linkspan.ledger.parts import known_part, remember_part
from linkspan.ledger.tags import layer_tag, model_tag, part_tag, pinned_tag
from linkspan.ledger.values import PackagedModel
from linkspan.ledger.verdicts import note, pardon, rejection
from linkspan.models.ahead import ahead
from linkspan.models.base import ModelStore, Pinned, identify
from linkspan.models.layer import check_paths, layer_chunks, layer_size
from linkspan.models.parts import parts
from linkspan.models.validate import validate
from linkspan.nouns import Layer, Model, ModelFile, content_of, listing, short
from linkspan.progress import Progress, Say
from linkspan.registry import media
from linkspan.registry.blobs import Staged
from linkspan.registry.client import Registry
from linkspan.registry.unfinished import unfinished
from linkspan.scratch import scratch


def packaged_already(registry: Registry, pinned: Pinned, folder: str) -> PackagedModel | None:
    """The layers of what the store holds, below `folder`, if the registry has them. Reads no byte of it."""
    digest = registry.exists(pinned_tag(pinned.fingerprint, folder))
    if digest is None:
        return None
    model, _ = read_modelpack(registry.image(digest))
    return PackagedModel(model=model, manifest=digest)


def packaged_content(registry: Registry, model: Model, folder: str) -> PackagedModel | None:
    """The layers with the content of `model` below `folder`, if they are in the registry."""
    digest = registry.exists(layer_tag(model.digest, folder))
    return PackagedModel(model=model, manifest=digest) if digest else None


def packaged_version(registry: Registry, name: str, version: str, folder: str) -> PackagedModel | None:
    """The layers of a version that the store can no longer give, as they were packaged when it could."""
    _, digest = series.last(registry, model_tag(name, version))
    if digest is None:
        return None
    model, _ = read_modelpack(registry.image(digest))
    return packaged_content(registry, model, folder)


def held(registry: Registry, pinned: Pinned, *, on_purpose: bool) -> str:
    """Why a model that was refused before is not tried again; empty if it may be.

    On purpose it may: the verdict is then forgotten.
    """
    key = _verdict(pinned)
    known = rejection(registry, key)
    if known is None:
        return ""
    if on_purpose:
        pardon(registry, key)
        return ""
    again = "Publish a version that mends it, or try this one again on purpose with `linkspan deploy`"
    return f"{_called(pinned)} is held back: {known.reason}. {again}"


def package(
    store: ModelStore, registry: Registry, pinned: Pinned, folder: str, *, say: Say, progress: Progress
) -> PackagedModel:
    """Stream the model into the registry as layers below `folder`, validated before they are committed.

    Raises ModelCorrupt or ModelRefused (both are remembered, so that the same bytes are not tried again),
    and whatever the store and the registry raise.
    """
    before = registry.sent
    try:
        identified = identify(store, pinned)
        model = identified.model
        assert model is not None  # noqa: S101 what identify is for
        known = registry.exists(layer_tag(model.digest, folder))
        if known:
            _, layers = read_modelpack(registry.image(known))
            say("The same bytes were validated and packaged before; nothing is read")
        else:
            layers = _stream(store, registry, identified, folder, say=say, progress=progress)
    except ModelError as error:
        note(registry, _verdict(pinned), _called(pinned), error, say=say)
        raise
    # Three names for one manifest: the version for people, the content and what was pinned for reuse. The
    # latter comes last: it is what says that all of this is done. A version is a series: its files may be
    # overwritten, and its folder may become another.
    registry.push_blob(listing(identified.files))
    manifest = registry.push_image(modelpack(model, identified.files, layers, pinned.fingerprint))
    series.add(registry, model_tag(model.name, model.version), manifest)
    series.once(registry, manifest, layer_tag(model.digest, folder))
    series.once(registry, manifest, pinned_tag(pinned.fingerprint, folder))
    return PackagedModel(model=model, manifest=manifest, pushed=registry.sent - before)


def _stream(
    store: ModelStore,
    registry: Registry,
    pinned: Pinned,
    folder: str,
    *,
    say: Say,
    progress: Progress,
) -> tuple[Layer, ...]:
    files = pinned.files
    check_paths(files, folder)
    opened = any(file.path.endswith(".onnx") for file in files)
    layers: list[Layer] = []
    pending: list[tuple[str, Layer, Staged]] = []
    with scratch("model") as place, ExitStack() as notes:

        def open_file(file: ModelFile) -> Iterator[bytes]:
            chunks = store.read(pinned, file.path)
            return _tee(chunks, place / file.path) if opened else chunks

        try:
            for part in parts(files):
                tag, size = part_tag(content_of(part), folder), layer_size(part, folder)
                chunks = ahead(layer_chunks(part, folder, open_file))
                layer = known_part(registry, tag, size)
                if layer is None:
                    earlier = notes.enter_context(unfinished(f"{registry.name} {tag}"))
                    staged = registry.stage(chunks, size, progress=progress, earlier=earlier)
                    layer = media.model_layer(staged.digest, size)
                    pending.append((tag, layer, staged))
                else:
                    say(f"Layer {short(layer.digest)} ({_named(part)}) is in the registry already")
                    _pass_by(tag, layer, chunks if opened else (), progress)
                layers.append(layer)
            if opened:
                result = validate(place)
                say(f"Opened it and scored a sample in {result.seconds:.1f} s ({result.sandbox})")
            else:
                say("No ONNX file in it, so the smoke test will be the judge")
            while pending:
                tag, layer, staged = pending[0]
                registry.commit(staged)
                del pending[0]
                remember_part(registry, tag, layer)
        except LinkspanError as error:
            for _, _, staged in pending:
                # What passes by itself leaves them for the next try, which goes on with them.
                if not (error.retriable and staged.earlier):
                    registry.discard(staged)
            raise
    return tuple(layers)


def _pass_by(tag: str, layer: Layer, chunks: Iterable[bytes], progress: Progress) -> None:
    """Read a layer that is there, where its files must be opened; else only count it."""
    if not chunks:
        progress(layer.size)
        return
    hashed = hashlib.sha256()
    for chunk in chunks:
        hashed.update(chunk)
        progress(len(chunk))
    if (found := "sha256:" + hashed.hexdigest()) != layer.digest:
        raise DigestMismatch(
            f"layer under tag {tag}",
            expected=found,
            found=layer.digest,
            fix="Delete that tag: it was put by hand",
        )


def _named(part: Sequence[ModelFile]) -> str:
    return part[0].path if len(part) == 1 else f"{part[0].path} and {len(part) - 1} more"


def _tee(chunks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as copy:
            for chunk in chunks:
                copy.write(chunk)
                yield chunk
    except OSError as error:
        raise ConfigError(
            f"the model cannot be opened: {path.name} cannot be written to {path.parent}",
            found=error.strerror or type(error).__name__,
            fix="Free space there for a whole model, or set TMPDIR to a folder that has it",
        ) from None


def _called(pinned: Pinned) -> str:
    # Plain objects have no version before they were read.
    return f"model {pinned.name} {pinned.version}".strip()


def _verdict(pinned: Pinned) -> str:
    return f"model {pinned.fingerprint}"
