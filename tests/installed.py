"""Linkspan as its wheel installs it, for tests of what must come with it."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def install(folder: Path) -> Path:
    """Build the wheel and unpack it below `folder`, with the bits of its files; where it is."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = Path(archive.extract(member, folder / "installed"))
            # Installers keep the bit.
            path.chmod(path.stat().st_mode | (member.external_attr >> 16 & 0o111))
    return folder / "installed"


def run(installed: Path, program: str) -> list[str]:
    """The lines that a program prints which imports what was installed and not this checkout."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, cwd=installed, check=True, capture_output=True, text=True
    ).stdout.splitlines()
