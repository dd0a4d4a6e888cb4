"""A real PostgreSQL, Debian's, with a password, on a free port; nothing of it stays."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from linkspan.processes import Child, free_port

USER = "linkspan"


def _program(name: str) -> str:
    # Debian keeps each version's programs in a folder of their own, outside of PATH.
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        pytest.fail(f"these tests need PostgreSQL's {name}: scripts/packages.sh postgresql", pytrace=False)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[SecretStr]:
    """The URL of an empty database, as `linkspan up --database` takes it."""
    with running_postgres() as url:
        yield url


@contextmanager
def running_postgres() -> Iterator[SecretStr]:
    """One that runs until the block ends; the URL of its empty database."""
    # Not below pytest's folder: the server refuses to run as root, and others may not look in there.
    home = Path(tempfile.mkdtemp(prefix="linkspan-postgres-"))
    try:
        child, url = start_postgres(home)
        try:
            yield url
        finally:
            child.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start_postgres(home: Path) -> tuple[Child, SecretStr]:
    """One that keeps all in `home`, a folder that any user may reach; the caller stops it."""
    port, password = free_port(), secrets.token_hex(16)
    as_user: list[str] = []
    (home / "password").write_text(password)
    if os.getuid() == 0:
        as_user = ["runuser", "-u", "nobody", "--"]
        for path in (home, home / "password"):
            shutil.chown(path, "nobody")
    data = str(home / "data")
    make = [_program("initdb"), "-D", data, "-U", USER, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
    subprocess.run([*as_user, *make, f"--pwfile={home}/password"], check=True, capture_output=True, cwd=home)
    # What is lost with the machine need not be kept through its end: tests need speed.
    options = ["-c", "fsync=off", "-c", "max_connections=200", "-c", "listen_addresses=127.0.0.1"]
    serve = [_program("postgres"), "-D", data, "-p", str(port), "-k", str(home), *options]
    child = Child("postgres", [*as_user, *serve], log=home / "log", cwd=home)
    ask = [_program("pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
    try:
        child.wait_until(lambda: subprocess.run(ask, check=False).returncode == 0, seconds=600)
    except BaseException:
        child.stop()
        raise
    return child, SecretStr(f"postgresql+asyncpg://{USER}:{password}@127.0.0.1:{port}/postgres")
