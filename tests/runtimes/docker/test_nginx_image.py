"""The script that makes nginx's image is found from a checkout, and comes with the wheel."""

import os
import re
from pathlib import Path

from linkspan.runtimes.docker.nginx_image import _SCRIPT
from tests.installed import install, run

ROOT = Path(__file__).parents[3]


def test_the_script_in_a_checkout() -> None:
    assert _SCRIPT == ROOT / "scripts" / "nginx-image.sh"


def test_the_script_in_a_wheel(tmp_path: Path) -> None:
    installed = install(tmp_path)
    (found,) = run(installed, "import linkspan.runtimes.docker.nginx_image as it; print(it._SCRIPT)")
    script = Path(found)
    assert script == installed / "linkspan/scripts/nginx-image.sh"
    # Installers keep the bit; and what it sources or runs lies next to it.
    assert all(os.access(script.parent / name, os.X_OK) for name in ("nginx-image.sh", "packages.sh"))
    beside = set(re.findall(r'dirname "\$0"\)/([a-z-]+\.sh)', script.read_text()))
    beside |= set(
        re.findall(r'dirname "\$0"\)/([a-z-]+\.sh)', (script.parent / "debian-root.sh").read_text())
    )
    assert beside == {"debian-root.sh", "packages.sh"}
    assert all((script.parent / name).is_file() for name in beside)
