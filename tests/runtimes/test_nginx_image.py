"""The script that makes nginx's image is found from a checkout, and comes with the wheel."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from linkspan.runtimes.nginx_image import _SCRIPT

ROOT = Path(__file__).parents[2]


def test_the_script_in_a_checkout() -> None:
    assert _SCRIPT == ROOT / "scripts" / "nginx-image.sh"


def test_the_script_in_a_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        runnable = {each.filename for each in archive.infolist() if each.external_attr >> 16 & 0o100}
    program = "import linkspan.runtimes.nginx_image as it; print(it._SCRIPT)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "installed",
        check=True,
        capture_output=True,
        text=True,
    )
    script = Path(found.stdout.strip())
    assert script == tmp_path / "installed/linkspan/scripts/nginx-image.sh"
    # Installers keep the bit; and what it sources or runs lies next to it.
    assert {"linkspan/scripts/nginx-image.sh", "linkspan/scripts/packages.sh"} <= runnable
    beside = set(re.findall(r'dirname "\$0"\)/([a-z-]+\.sh)', script.read_text()))
    beside |= set(
        re.findall(r'dirname "\$0"\)/([a-z-]+\.sh)', (script.parent / "debian-root.sh").read_text())
    )
    assert beside == {"debian-root.sh", "packages.sh"}
    assert all((script.parent / name).is_file() for name in beside)
