"""Packages a model and links it, as the flows do: a process of its own, so that its memory can be measured.

Standard input: JSON with the registry's settings (so the password is in no process list), the app, the code
image's tag and the folder of the model store. Standard output: JSON with the release's digest, what was sent
and the peak of resident memory, all in bytes.
"""

import json
import sys
from pathlib import Path

from linkspan.ledger.labels import read_code_image
from linkspan.models import open_models
from linkspan.models.package import package
from linkspan.registry.settings import RegistrySettings
from linkspan.release.pair import linked
from linkspan.release.steps import push_candidate
from linkspan.stores.file import FileStoreSettings


def main() -> None:
    job = json.loads(sys.stdin.readline())
    store = open_models(FileStoreSettings(path=job["store"]), "digits")
    pinned = store.newest()
    assert pinned is not None
    with RegistrySettings.model_validate(job["settings"]).open(job["app"]) as registry:
        code = read_code_image(registry.image(job["code"]))
        packaged = package(
            store, registry, pinned, code.config.model.path, say=lambda _: None, progress=lambda _: None
        )
        push_candidate(registry, code, packaged)
        digest = linked(registry, code, packaged).image.digest
        sent = registry.sent
    # Not ru_maxrss: Linux starts it with the size of the process that forked this one, here all of pytest.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    sys.stdout.write(json.dumps({"digest": digest, "sent": sent, "peak": peak}))


if __name__ == "__main__":
    main()
