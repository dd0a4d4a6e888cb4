"""The sample app in a world: its own image, tests and kind of model, published and pushed as people do it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from blocks import ImageBuilder
from tests.e2e.world import World
from tests.services.engine import BASE

APP = Path(__file__).parents[2] / "app"
# Behind a company's proxy pip needs the host's network; the base image has the CA bundle.
_BUILDER = ImageBuilder(
    build_args=[f"BASE={BASE}"], network_mode="host" if os.environ.get("SSL_CERT_FILE") else ""
)

# What a git server calls after a push, as `make demo` has it.
_HOOK = """\
#!/bin/sh
while read -r old new ref; do
    {python} -m linkspan trigger commit --app {app} --key "push:$old:$new" --hint "git push by Ada"
done
"""


@dataclass(kw_only=True)
class SampleWorld(World):
    """One whose app is the sample, and whose models are its classifier, each with other bytes."""

    builder: ImageBuilder = field(default_factory=_BUILDER.model_copy)

    def commit_app(self, title: str = "") -> None:
        """Commit it, with another title of its page; it is not pushed."""
        ignore = shutil.ignore_patterns("__pycache__", "model", "*.pyc")
        shutil.copytree(APP, self.repository.work, dirs_exist_ok=True, ignore=ignore)
        _change(self.repository.work / "linkspan.toml", '"digits"', f'"{self.app}"')
        _change(self.repository.work / "scoring/page/page.html", "</title>", f"{title}</title>")
        self.repository.git("add", "-A")
        self.repository.git("commit", "-q", "-m", f"The digits service {title}".strip())

    def push(self) -> None:
        """What a developer types; the repository's hook starts app-stream."""
        hook = self.repository.bare / "hooks" / "post-receive"
        if not hook.exists():
            hook.write_text(_HOOK.format(python=shlex.quote(sys.executable), app=self.app))
            hook.chmod(0o755)
        self._typed("git", "push", "-q", "origin", "HEAD", cwd=self.repository.work)

    def train(self) -> Path:
        """The sample's classifier, trained once."""
        folder = self.folder / "trained"
        if not folder.exists():
            self._typed(sys.executable, str(APP / "train.py"), "--out", str(folder), cwd=APP)
        return folder

    def another(self, word: str) -> Path:
        """The classifier with other bytes, which scores the same."""
        folder, trained = self.folder / f"trained-{word}", self.train()
        folder.mkdir()
        for path in trained.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        model = onnx.load(trained / "digits.onnx")
        model.doc_string = word
        onnx.save(model, folder / "digits.onnx")
        return folder

    def publish_folder(self, folder: Path) -> None:
        """What a data scientist types; it starts model-stream."""
        metrics = str(folder / "metrics.json")
        command = [sys.executable, "-m", "linkspan", "publish", str(folder), "--app", self.app]
        self._typed(*command, "--metrics", metrics, "--by", "Grace", cwd=self.folder)

    @staticmethod
    def pair_of(body: bytes) -> str:
        """The commit and the model version that an answer names."""
        answer = json.loads(body)
        return f"{answer['commit']} {answer['model']['version']}"

    def _typed(self, *command: str, cwd: Path) -> None:
        env = {**os.environ, **self.server.env}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _change(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after, 1))
