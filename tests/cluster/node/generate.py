"""Writes go.mod for one release of Kubernetes: python3 generate.py 1.36.3 1.14.0; then run `go mod tidy`.

k8s.io/kubernetes requires its own staging modules in version v0.0.0 and replaces them with folders of its
repository; whoever imports it has to replace them with the published modules of the same release.
"""

import json
import subprocess
import sys
from pathlib import Path

KUBERNETES, COREDNS = sys.argv[1:]
STAGING = "v0" + KUBERNETES.removeprefix("1")


def go(*arguments: str) -> str:
    return subprocess.run(["go", *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    folder = Path(__file__).parent
    origin = json.loads(go("mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"))["GoMod"]
    theirs = json.loads(go("mod", "edit", "-json", origin))
    staged = [entry["Old"]["Path"] for entry in theirs["Replace"]]
    # Kubernetes was tested with these versions of its libraries.
    tested = {entry["Path"]: entry["Version"] for entry in theirs["Require"]}
    lines = [
        "module linkspan.dev/tests/cluster/node",
        "",
        f"go {theirs['Go']}",
        "",
        "godebug default=go1.26",
        "",
        "require (",
        f"\tgithub.com/coredns/coredns v{COREDNS}",
        f"\tk8s.io/kubernetes v{KUBERNETES}",
        *(f"\t{path} {version}" for path, version in tested.items() if path not in staged),
        ")",
        "",
        "replace (",
        *(f"\t{path} => {path} {STAGING}" for path in staged),
        ")",
    ]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
