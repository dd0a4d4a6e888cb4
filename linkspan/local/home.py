"""The folder of `linkspan up`: who holds it, the server's password, and where others find the server."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import SecretStr, ValidationError

from linkspan.errors import ConfigError
from linkspan.nouns import Noun
from linkspan.places import home_folder


class State(Noun):
    """Where the running services are; written when they are ready, removed when they stop."""

    api_url: str
    ui_url: str
    hooks_url: str = ""
    pid: int
    pids: dict[str, int]
    auth_file: str


class Home:
    """One folder, used by at most one `linkspan up` at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.logs = self.path / "logs"
        # PREFECT_HOME of all that runs here: database, leases, results, and no profile of the user's.
        self.prefect = self.path / "prefect"
        self.warm = self.path / "warm"  # where flows/warm.py listens
        self.inbox = self.path / "inbox"  # hints that were accepted, and wait for their runs
        self.auth_file = self.path / "auth"
        self.state_file = self.path / "state.json"

    @classmethod
    def default(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The home where none is named (places.py)."""
        return cls(home_folder(environment))

    @property
    def mark(self) -> str:
        """What the environment of every process of this home holds, and of no other."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:24]

    def create(self) -> None:
        """Make the folder, for its owner only: it holds the server's database with everybody's secrets.

        Raises ConfigError where that cannot be, also for a folder that others use: `--home /tmp` must not
        close /tmp to them.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            shared = self.path.stat().st_mode & 0o077
            if shared and any(self.path.iterdir()):
                raise ConfigError(
                    f"{self.path} is in use for other things, and open to other users",
                    expected="a folder for linkspan alone; it may be one that is not there yet",
                    fix=f"Name another with --home or LINKSPAN_HOME; if it is ours: chmod 700 {self.path}",
                )
            self.path.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be linkspan's folder: {error.strerror}",
                fix="Name another with --home or LINKSPAN_HOME",
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder. Raises ConfigError if another process does; the kernel frees it at any death."""
        self.create()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                raise ConfigError(
                    f"linkspan is already up in {self.path} (process {holder})",
                    fix=f"Use it as it is, stop it with `kill {holder}`, or give this one a LINKSPAN_HOME",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def auth(self) -> SecretStr:
        """`user:password` of the server, made on first use and kept in a file only its owner can read."""
        self.create()
        try:
            descriptor = os.open(self.auth_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            text = self.auth_file.read_text().strip()
            if ":" in text:
                return SecretStr(text)
            # A first start was killed between making the file and writing it.
            self.auth_file.unlink()
            return self.auth()
        text = f"linkspan:{secrets.token_urlsafe(24)}"
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        return SecretStr(text)

    def read_state(self) -> State | None:
        """The state file, or None where nothing is up. Raises ConfigError for a file that is not ours."""
        try:
            return State.model_validate_json(self.state_file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.state_file} cannot be read: {error.strerror}",
                fix="LINKSPAN_HOME is the folder of `linkspan up`",
            ) from None
        except ValidationError as error:
            raise ConfigError(
                f"{self.state_file} is not a state file of this version: {error.error_count()} errors",
                fix="Remove it and run `linkspan up` again",
            ) from None

    def write_state(self, state: State) -> None:
        """Replace the state file at once, so that a reader never sees half of it."""
        draft = self.state_file.with_suffix(".tmp")
        draft.write_text(state.model_dump_json(indent=2) + "\n")
        draft.replace(self.state_file)

    def forget_state(self) -> None:
        """Remove the state file."""
        self.state_file.unlink(missing_ok=True)
