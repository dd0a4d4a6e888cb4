"""Streams a generated model into a registry and links it: a process of its own, so that it can be measured.

Standard input: JSON with the registry's settings (so the password is in no process list), the app, the code
image and the model's size. Standard output: JSON with the release's digest and the peak of resident memory.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from linkspan.ledger.modelpack import modelpack
from linkspan.models.layer import layer_chunks, layer_size
from linkspan.nouns import Layer, ModelFile, listing
from linkspan.registry import media
from linkspan.registry.settings import RegistrySettings
from tests.registry.images import linked
from tests.values import model_of

CHUNK = bytes(range(256)) * 4096


def main() -> None:
    job = json.loads(sys.stdin.readline())
    size = int(job["size"])
    assert size % len(CHUNK) == 0
    hashed = hashlib.sha256()
    for _ in range(size // len(CHUNK)):
        hashed.update(CHUNK)
    file = ModelFile(path="model.onnx", size=size, sha256=hashed.hexdigest())
    model = model_of([file], name="digits", version="v1", published_at=datetime(2026, 1, 1, tzinfo=UTC))

    def generate(_: ModelFile) -> Iterator[bytes]:
        return (CHUNK for _ in range(size // len(CHUNK)))

    with RegistrySettings.model_validate(job["settings"]).open(job["app"]) as registry:
        digest, stored = registry.push_stream(
            layer_chunks([file], "/model", generate), layer_size([file], "/model")
        )
        layer = Layer(digest=digest, diff_id=digest, size=stored, media_type=media.MODEL_LAYER)
        registry.push_blob(listing([file]))
        registry.push_image(modelpack(model, [file], [layer]), "model-digits-v1")
        image = linked(registry.image(job["code"]), model, layer, "/model")
        registry.push_image(image, "release")
        sent = registry.sent
    # Not ru_maxrss: Linux starts it with the size of the process that forked this one, here all of pytest.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    sys.stdout.write(json.dumps({"digest": image.digest, "layer": stored, "sent": sent, "peak": peak}))


if __name__ == "__main__":
    main()
