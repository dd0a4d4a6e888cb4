"""Azurite, the emulator of Azure Blob Storage, from npm: installed once per user, started once per test
process, in memory, on a port of its own.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from linkspan.processes import Child, free_port, listens

# The account and key that every Azurite has; they are public and protect nothing.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azurite(NamedTuple):
    """Where the emulator is."""

    port: int

    @property
    def account_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def connection_string(self, *, port: int = 0, key: str = KEY) -> str:
        """To sign in with the account's key; through another port, or with another key, if given."""
        endpoint = f"http://127.0.0.1:{port or self.port}/{ACCOUNT}"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"
        )

    def create_container(self, name: str) -> None:
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(self.connection_string(), name) as client:
            client.create_container()


def azurite_program() -> Path:
    """The program, installed with npm into the user's cache if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linkspan" / "azurite"
    program = home / "node_modules" / ".bin" / "azurite-blob"
    home.mkdir(parents=True, exist_ok=True)
    # Parallel test processes wait here for the one that installs.
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--silent", "azurite@3"],
                cwd=home,
                check=True,
                capture_output=True,
                timeout=1200,
            )
    return program


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    if not shutil.which("npm"):
        pytest.fail("npm is not installed, so Azurite cannot be: scripts/test.sh installs it", pytrace=False)
    folder = tmp_path_factory.mktemp("azurite")
    port = free_port()
    command = [str(azurite_program()), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--inMemoryPersistence", "--loose", "--skipApiVersionCheck", "--silent"]
    command += ["--disableTelemetry"]
    server = Child("Azurite", command, log=folder / "azurite.log", cwd=folder)
    try:
        server.wait_until(lambda: listens(port), seconds=600)
        yield Azurite(port)
    finally:
        server.stop()
