"""A bare copy of one branch of a repository under the user's cache, so that looking costs one question.

It holds nothing that cannot be fetched again: when it is damaged it is thrown away. It has the whole history
of the branch, neither shallow nor partial: older commits must be there for a rollback, also while the server
is not.
"""

import difflib
import fcntl
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from linkspan.code.git import GitCommand, GitFailed
from linkspan.errors import ConfigError, SourceError

T = TypeVar("T")


class GitMirror:
    """The copy, shared by processes: fetches wait for each other, reads run side by side."""

    def __init__(self, command: GitCommand, branch: str, cache: Path) -> None:
        self._command = command
        self.branch = branch
        self.ref = f"refs/heads/{branch}"
        name = re.sub(r"[^A-Za-z0-9]+", "-", command.url.removesuffix(".git")).strip("-")[-40:]
        self.path = cache / f"{name}-{hashlib.sha256(command.url.encode()).hexdigest()[:12]}.git"

    def git(self, *args: str, text: str = "") -> bytes:
        """Output of git in the copy."""
        return self._command.run(*args, cwd=self.path, text=text)

    def read(self, look: Callable[[], T]) -> T:
        """Run `look` on the copy as it is; if that turns out to be damaged, once more on a new one."""
        return self._use(look, fetch=False)

    def fetched(self, look: Callable[[], T], empty: T) -> T:
        """Bring the copy up to date, then run `look`; `empty` is the answer for an empty repository.

        Raises SourceUnavailable, SourceDenied, and ConfigError if there are branches but not this one.
        """
        return self._use(lambda: look() if self._fetch() else empty, fetch=True)

    def heads(self, *only: str) -> dict[str, str]:
        """The branches that the server has, all or `only` these, and the commits they are at."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        refs = [f"refs/heads/{name}" for name in only]
        try:
            listed = self._command.run("ls-remote", "--heads", self._command.url, *refs, cwd=self.path.parent)
        except GitFailed as error:
            raise SourceError(error.what, found=error.found) from None
        pairs = (line.split("\t") for line in listed.decode(errors="replace").splitlines())
        return {ref.removeprefix("refs/heads/"): sha for sha, ref in pairs}

    def no_branch(self, heads: dict[str, str]) -> ConfigError:
        """The error for a branch that is not among `heads`."""
        close = difflib.get_close_matches(self.branch, heads, n=1)
        return ConfigError(
            f"{self._command.url} has no branch {self.branch!r}",
            expected="one of " + ", ".join(sorted(heads)[:10]),
            fix=f"Did you mean {close[0]!r}?" if close else "Push it, or set branch to the one to release",
        )

    def _use(self, look: Callable[[], T], *, fetch: bool) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked(exclusive=fetch):
            try:
                self._prepare()
                return look()
            except GitFailed:
                pass  # damaged, or torn by a killed fetch: a new one will tell
        with self._locked(exclusive=True):
            shutil.rmtree(self.path, ignore_errors=True)
            try:
                self._prepare()
                if not fetch:
                    self._fetch()
                return look()
            except GitFailed as error:
                raise SourceError(error.what, found=error.found) from None

    @contextmanager
    def _locked(self, *, exclusive: bool) -> Iterator[None]:
        # The kernel gives the lock back when a process dies, however it dies.
        with self.path.with_suffix(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield

    def _prepare(self) -> None:
        if not (self.path / "HEAD").exists():
            self.path.mkdir(exist_ok=True)
            self.git("init", "--quiet", "--bare", ".")

    def _fetch(self) -> bool:
        """Bring the branch up to date. False if the repository is empty."""
        refspec = f"+{self.ref}:{self.ref}"
        try:
            self.git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self._command.url, refspec)
        except GitFailed as error:
            if "couldn't find remote ref" not in error.found.lower():
                raise
            heads = self.heads()
            if heads:
                raise self.no_branch(heads) from None
            return False
        return True
