"""The git repository of an app: which commit is newest, which came before, and the files of exactly one."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr

from linkspan.code.git import GitCommand, is_folder
from linkspan.code.mirror import GitMirror
from linkspan.errors import CommitNotFound, ConfigError
from linkspan.nouns import Commit
from linkspan.plain_text import plain_text
from linkspan.scratch import scratch

# git-log(1); none of these can hold a line break.
_FORMAT = "%H%x00%T%x00%an%x00%cI%x00%s"


class GitSettings(BaseModel):
    """Where an app's code is, and how to get at it."""

    url: str = Field(description="The git repository: https://…, ssh://…, git@host:path, or a folder")
    branch: str = Field(default="main", description="The branch whose newest commit is released")
    folder: str = Field(
        default="",
        description="The app's folder in the repository, the one with its Dockerfile; empty: the root",
    )
    username: str = Field(
        default="", description="User name for https; most providers take any with a token, so empty is fine"
    )
    token: SecretStr | None = Field(
        default=None, description="Token or password for https, with the right to read the repository"
    )
    private_key: SecretStr | None = Field(
        default=None, description="Private key for ssh, in OpenSSH's format, without a passphrase"
    )
    known_hosts: str = Field(
        default="",
        description="Lines of ssh's known_hosts; empty: the server's key is accepted the first time",
    )

    def open(self, cache: Path | None = None) -> "GitSource":
        """A source that keeps its mirror under `cache`, or the user's cache folder. Raises ConfigError."""
        _check(self)
        command = GitCommand(
            str(Path(self.url).expanduser().absolute())
            if is_folder(self.url) and "://" not in self.url
            else self.url,
            username=self.username,
            token=_secret(self.token),
            private_key=_secret(self.private_key),
            known_hosts=self.known_hosts,
        )
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        mirror = GitMirror(command, self.branch, cache or Path(home, "linkspan", "git"))
        return GitSource(command, mirror, self.folder.strip("/"))


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value is not None else ""


def _check(settings: GitSettings) -> None:
    # The url itself stays out of the message where a password is in it.
    if urlsplit(settings.url).password:
        raise ConfigError(
            "the url of the git repository holds a password",
            fix="Put the user name into username and the password into token: they are kept secret there",
        )
    if not settings.url or settings.url.startswith("-") or "::" in settings.url.split("/", maxsplit=1)[0]:
        raise ConfigError(f"{settings.url!r} is no git repository", expected="https://, ssh:// or a folder")
    if not re.fullmatch(r"(?!-)[^\s~^:?*\[\\]+", settings.branch) or ".." in settings.branch:
        raise ConfigError(f"{settings.branch!r} cannot be a branch", expected="a name such as main")
    if ".." in settings.folder.split("/"):
        raise ConfigError(
            f"{settings.folder!r} is not in the repository", expected="a folder such as services/digits"
        )


class GitSource:
    """One branch, and one folder, of one repository. Safe to use from several processes.

    Calls that ask the server raise SourceUnavailable (retriable) or SourceDenied.
    """

    def __init__(self, command: GitCommand, mirror: GitMirror, folder: str) -> None:
        self._command = command
        self._mirror = mirror
        self.branch = mirror.branch
        self.folder = folder

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return self._command.url

    def newest(self) -> Commit | None:
        """The newest commit of the branch, asked from the server; None while the repository is empty.

        Raises ConfigError if other branches are there but not this one, or if the app's folder is not.
        """
        return self._mirror.fetched(lambda: self._read_commit(self._mirror.ref), None)

    def head(self) -> str | None:
        """The sha that the branch is at now, by one question to the server; nothing is fetched.

        None while the repository is empty. Raises ConfigError if other branches are there but not this one.
        """
        # git matches the end of a ref: a branch `x/refs/heads/main` would be listed too.
        found = self._mirror.heads(self.branch).get(self.branch)
        if found is None and (others := self._mirror.heads()):
            raise self._mirror.no_branch(others)
        return found

    def recent(self, limit: int = 200) -> list[Commit]:
        """The newest commits along first parents, newest first, asked from the server.

        Those without the app's folder are left out; an empty repository has none.
        """
        return self._mirror.fetched(
            lambda: self._log("--first-parent", f"--max-count={limit}", self._mirror.ref), []
        )

    def commit(self, sha: str) -> Commit:
        """The commit `sha`, whole or at least four characters of it.

        Raises CommitNotFound if none, or more than one, on a fetched branch begins so; commits that a forced
        push took away are not there. Asks the server only for one that is not in the mirror.
        """
        prefix = sha.lower()
        if not re.fullmatch(r"[0-9a-f]{4,64}", prefix):
            raise CommitNotFound(
                f"{sha!r} is no commit", expected="at least 4 characters of its sha, such as 3fa9c1d"
            )
        known = self._mirror.read(lambda: self._resolve(prefix))
        known = known or self._mirror.fetched(lambda: self._resolve(prefix), None)
        if known is None:
            raise CommitNotFound(
                f"commit {sha} is not on branch {self.branch} of {self.url}",
                fix="Push it to the branch, or name one of `git log --first-parent`",
            )
        return known

    def read(self, commit: Commit, path: str) -> bytes | None:
        """The content of a file, by its path below the app's folder; None if that commit has no such file."""

        def look() -> bytes | None:
            kind = self._kinds([f"{commit.tree}:{path}"])[0]
            return self._mirror.git("cat-file", "blob", f"{commit.tree}:{path}") if kind == "blob" else None

        self._ensure(commit)
        return self._mirror.read(look)

    @contextmanager
    def checkout(self, commit: Commit) -> Iterator[Path]:
        """The app's folder as it is in `commit`, in a temporary place; gone when the block ends.

        Submodules and LFS files are there, `.git` is not. Raises SourceUnavailable and SourceDenied for what
        has to be asked from a server, ConfigError if files need git-lfs and it is not installed.
        """
        self._ensure(commit)
        with scratch("checkout") as place:
            tree = place / "tree"
            self._mirror.read(lambda: self._check_out(commit, tree))
            yield tree / self.folder

    def check(self) -> str:
        """A line for people that says the repository can be read; raises what is wrong with it."""
        heads = self._mirror.heads()
        if not heads:
            return f"{self.url} is empty"
        if self.branch not in heads:
            raise self._mirror.no_branch(heads)
        return f"{self.url}: {self.branch} is at {heads[self.branch][:7]}"

    def _ensure(self, commit: Commit) -> None:
        """A commit may have been found on another machine: fetch if this mirror has not got it yet."""

        def present() -> bool:
            return self._kinds([commit.sha]) == ["commit"]

        if not self._mirror.read(present) and not self._mirror.fetched(present, False):
            raise CommitNotFound(
                f"commit {commit.sha} is not on branch {self.branch} of {self.url}",
                fix="It was taken away by a forced push; start again from the newest",
            )

    def _kinds(self, names: list[str]) -> list[str]:
        """What git calls each of these objects; "" for one that is not there."""
        return [kind for _, kind in self._objects(names)]

    def _objects(self, names: list[str]) -> list[tuple[str, str]]:
        asked = "".join(f"{name}\n" for name in names)
        answers = self._mirror.git("cat-file", "--batch-check=%(objectname) %(objecttype)", text=asked)
        # "<sha> <type>", or "<what was asked> missing"; a path may hold spaces.
        fields = (answer.rsplit(" ", 1) for answer in answers.decode(errors="replace").split("\n")[:-1])
        return [(sha, kind if kind in {"commit", "tree", "blob"} else "") for sha, kind in fields]

    def _resolve(self, prefix: str) -> Commit | None:
        names = self._mirror.git("rev-parse", f"--disambiguate={prefix}").decode().split()
        commits = [sha for sha, kind in self._objects(names) if kind == "commit"]
        reachable = [
            sha for sha in commits if self._mirror.git("for-each-ref", "--count=1", f"--contains={sha}")
        ]
        if len(reachable) > 1:
            raise CommitNotFound(f"more than one commit begins with {prefix}", fix="Give more characters")
        return self._read_commit(reachable[0]) if reachable else None

    def _read_commit(self, revision: str) -> Commit:
        found = self._log("--max-count=1", revision)
        if not found:
            raise ConfigError(
                f"{self.url} has no folder {self.folder!r} on {revision.removeprefix('refs/heads/')}",
                fix="Set folder to the one that holds the app's Dockerfile",
            )
        return found[0]

    def _log(self, *args: str) -> list[Commit]:
        out = self._mirror.git("log", f"--format={_FORMAT}", *args, "--").decode(errors="replace")
        rows = [line.split("\0") for line in out.split("\n") if line]
        trees = self._trees([(row[0], row[1]) for row in rows])
        return [
            Commit.model_validate(
                {
                    "sha": sha,
                    "tree": trees[sha],
                    "author": _plain(author),
                    "subject": _plain(subject),
                    "committed_at": _moment(at),
                }
            )
            for sha, _, author, at, subject in rows
            if sha in trees
        ]

    def _trees(self, commits: list[tuple[str, str]]) -> dict[str, str]:
        """The tree of the app's folder in each commit that has it."""
        if not self.folder:
            return dict(commits)
        objects = self._objects([f"{sha}:{self.folder}" for sha, _ in commits])
        return {sha: tree for (sha, _), (tree, kind) in zip(commits, objects, strict=True) if kind == "tree"}

    def _check_out(self, commit: Commit, tree: Path) -> None:
        def git(*args: str) -> bytes:
            return self._command.run(*args, cwd=tree)

        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(mode=0o755)
        git("init", "--quiet", ".")
        # A clone that borrows the mirror's objects. Its origin is the server: submodules and LFS ask there.
        (tree / ".git" / "objects" / "info").mkdir(exist_ok=True)
        (tree / ".git" / "objects" / "info" / "alternates").write_text(
            f"{self._mirror.path.resolve()}/objects\n"
        )
        git("remote", "add", "origin", self.url)
        lfs = shutil.which("git-lfs") is not None
        if lfs:
            git("lfs", "install", "--local", "--skip-repo")
        git("checkout", "--quiet", "--force", "--detach", commit.sha)
        if not lfs and git("ls-files", ":(attr:filter=lfs)"):
            raise ConfigError(
                f"commit {commit.sha[:7]} has files in git LFS, and git-lfs is not installed",
                fix="Install git-lfs where the worker runs (apt-get install git-lfs)",
            )
        if (tree / ".gitmodules").exists():
            git("submodule", "--quiet", "update", "--init", "--recursive")
        for path in [tree / ".git", *tree.rglob(".git")]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _moment(text: str) -> datetime:
    """A commit's date; 1970, as git has it, for one that is none: histories from other tools hold such."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _plain(text: str) -> str:
    """One line of what somebody else wrote, harmless in a log and a label."""
    return plain_text(text)[:200]
