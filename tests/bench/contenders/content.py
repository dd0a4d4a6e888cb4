"""What all contenders ship in a round: the same app and the same models, new in each round."""

import random
from pathlib import Path

MB = 1_000_000
LIBRARIES = 8 * MB
MODEL_PATH = "/srv/model"
MODEL_FILE = "weights.bin"
START = 'CMD ["python3", "/srv/app.py"]\n'

# Linkspan's: without a model.
DOCKERFILE = f"ARG BASE\nFROM ${{BASE}}\nCOPY libraries /opt/libraries\nCOPY app.py /srv/app.py\n{START}"
TOML = f"""\
name = "bench"

[model]
name = "weights"
path = "{MODEL_PATH}"

[test]
command = ["true"]

[serve]
port = 8080
ready_path = "/"

[smoke]
path = "/"
expect_status = 200

[environments.production]
replicas = 1
"""


class Content:
    """An app's working copy and the folder of its model's versions."""

    def __init__(self, folder: Path, seed: str, size: int) -> None:
        self.app, self.models = folder / "app", folder / "models"
        self._seed, self._size = seed, size
        self.models.mkdir(parents=True)
        libraries = self.app / "libraries"
        libraries.mkdir(parents=True)
        for number in range(8):
            data = random.Random(f"{seed} library {number}").randbytes(LIBRARIES // 8)
            (libraries / f"library{number}.so").write_bytes(data)
        self.code(1)
        self.model(1)

    def code(self, version: int) -> None:
        """Change a line of the app."""
        (self.app / "app.py").write_text(f"print('version {version} of {self._seed}')\n")

    def model(self, version: int) -> Path:
        """The file of a version of the model: bytes that nothing can compress."""
        path = self.models / str(version) / MODEL_FILE
        if not path.exists():
            path.parent.mkdir()
            write_random(path, f"{self._seed} {version}", self._size * MB)
        return path


def write_random(path: Path, seed: str, size: int) -> None:
    """A file of random bytes, the same for the same seed, in constant memory."""
    source = random.Random(seed)
    with path.open("wb") as file:
        for at in range(0, size, 1 << 24):
            file.write(source.randbytes(min(1 << 24, size - at)))
