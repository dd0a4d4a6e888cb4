"""The demo's git repository, model store and blocks."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from demo.machine import BASE, DemoRegistry
from demo.places import APP, CLONE, ENVIRONMENT, HOME, MODELS, ORIGIN, ROOT, TRAINED
from linkspan.errors import ConfigError
from linkspan.prefect_api.server import Server

AUTHOR = ("Ada", "ada@example.com")

# What git runs after a push. It says that something changed; what is newest is looked up by the flow.
_HOOK = """\
#!/bin/sh
while read -r old new ref; do
    [ "$ref" = refs/heads/main ] || continue
    LINKSPAN_HOME={home} {python} -m linkspan trigger commit --app {app} \\
        --key "push:$old:$new" --hint "git push by ${{GIT_AUTHOR_NAME:-{author}}}"
done
"""


def git(*arguments: str, cwd: Path) -> str:
    """Run git as the demo's author. Raises ConfigError with what it said."""
    name, address = AUTHOR
    env = {
        **os.environ,
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": address,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": address,
    }
    result = subprocess.run(
        ["git", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ConfigError(f"git {shlex.join(arguments)} failed: {result.stderr.strip()}")
    return result.stdout.strip()


def make_repository() -> None:
    """A bare repository with a hook, and a clone with the sample app in it, committed but not pushed."""
    ORIGIN.mkdir(parents=True)
    git("init", "--quiet", "--bare", "--initial-branch=main", ".", cwd=ORIGIN)
    hook = ORIGIN / "hooks" / "post-receive"
    hook.write_text(
        _HOOK.format(
            home=shlex.quote(str(HOME)), python=shlex.quote(sys.executable), app=APP, author=AUTHOR[0]
        )
    )
    hook.chmod(0o755)
    git("clone", "--quiet", str(ORIGIN), str(CLONE), cwd=ORIGIN.parent)
    ignore = shutil.ignore_patterns("__pycache__", "model", "*.pyc")
    shutil.copytree(ROOT / "app", CLONE, dirs_exist_ok=True, ignore=ignore)
    git("checkout", "--quiet", "-B", "main", cwd=CLONE)
    commit("The digits service")


def commit(subject: str) -> str:
    """Commit everything in the clone; its sha."""
    git("add", "--all", cwd=CLONE)
    git("commit", "--quiet", "-m", subject, cwd=CLONE)
    return git("rev-parse", "HEAD", cwd=CLONE)


def push() -> None:
    """Push it, as a developer does; the hook does the rest."""
    git("push", "--quiet", "origin", "main", cwd=CLONE)


def save_blocks(server: Server, registry: DemoRegistry) -> None:
    """Where everything is, with the registry's password."""
    MODELS.mkdir(parents=True, exist_ok=True)
    settings = registry.settings
    assert settings.password is not None
    bundle = os.environ.get("SSL_CERT_FILE", "")
    server.save_block(f"git-repository/{APP}", {"url": str(ORIGIN), "branch": "main"})
    server.save_block(f"file-model-store/{APP}", {"path": str(MODELS)})
    server.save_block(
        f"container-registry/{APP}",
        {
            "host": settings.host,
            "prefix": settings.prefix,
            "username": settings.username,
            "password": settings.password.get_secret_value(),
        },
    )
    # Behind a company's proxy the build needs the host's network; the base image has the CA bundle.
    builder = {"build_args": [f"BASE={BASE}"], "network_mode": "host" if bundle else ""}
    server.save_block(f"image-builder/{APP}", builder)
    server.save_block(f"docker-runtime/{APP}-{ENVIRONMENT}", {})


def train(quality: str) -> Path:
    """Train the sample's classifier; the folder with all that is published."""
    folder = TRAINED / quality
    run_python(str(ROOT / "app" / "train.py"), "--quality", quality, "--out", str(folder))
    return folder


def publish(folder: Path, by: str) -> None:
    """What a data scientist types."""
    run_python(
        "-m",
        "linkspan",
        "publish",
        str(folder),
        "--app",
        APP,
        "--metrics",
        str(folder / "metrics.json"),
        "--by",
        by,
    )


def run_python(*arguments: str) -> str:
    """Run something with this interpreter against the demo's server. Raises ConfigError with its output."""
    env = {**os.environ, "LINKSPAN_HOME": str(HOME)}
    result = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ConfigError(
            f"{shlex.join(arguments)} failed:\n{(result.stdout + result.stderr).strip()[-3000:]}"
        )
    return result.stdout
