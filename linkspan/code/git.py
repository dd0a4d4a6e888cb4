"""Runs git, through GitPython, with credentials that nobody can see and errors that say what to do.

A token goes to git as configuration in the environment (git-config(1), GIT_CONFIG_COUNT), so it is in no
argument list, no file and no message; a private key goes into a file in memory that has no name and ends with
the process, however that ends.
"""

import base64
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import git

from linkspan.errors import ConfigError, LinkspanError, SourceDenied, SourceUnavailable

# A hook of git's exports these; they would send our commands to another repository.
_FOREIGN = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG_PARAMETERS",
)

# The same bytes on every machine, whatever its owner's configuration says, and no code of anybody else.
_CONFIG = {
    "core.autocrlf": "false",
    "core.hooksPath": os.devnull,
    "init.templateDir": "",
    "init.defaultBranch": "main",
    "i18n.logOutputEncoding": "UTF-8",
    "advice.detachedHead": "false",
    "gc.autoDetach": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
}


class GitFailed(LinkspanError):
    """git failed for a reason that is not the remote's: a damaged cache, a missing object. Stays inside."""


def is_folder(url: str) -> bool:
    """Whether `url` is a path of this machine; `host:path` is ssh to git."""
    return url.startswith("file://") or ("://" not in url and ":" not in url.split("/", maxsplit=1)[0])


class GitCommand:
    """git with the means to reach one repository."""

    def __init__(
        self, url: str, *, username: str = "", token: str = "", private_key: str = "", known_hosts: str = ""
    ) -> None:
        self.url = url
        self._secrets = [secret for secret in (token, private_key) if secret]
        self._private_key = private_key
        self._known_hosts = known_hosts
        self._config = dict(_CONFIG)
        parts = urlsplit(url)
        if token:
            if parts.scheme not in {"http", "https"}:
                raise ConfigError(
                    f"a token cannot be used for {url}",
                    expected="a url that begins with https://",
                    fix="Use the https address, or a private key instead of the token",
                )
            # Only this host: a submodule elsewhere does not get it.
            basic = base64.b64encode(f"{username or 'x-access-token'}:{token}".encode()).decode()
            self._secrets.append(basic)
            host = f"{parts.scheme}://{parts.netloc}/"
            self._config[f"http.{host}.extraHeader"] = f"Authorization: Basic {basic}"
            self._config["credential.helper"] = ""
        # A submodule may be in a folder only where the repository itself is.
        self._protocols = "git:http:https:ssh" + (":file" if is_folder(url) else "")

    def run(self, *args: str, cwd: Path, text: str = "") -> bytes:
        """Standard output of `git *args` with `text` on its input.

        Raises SourceUnavailable, SourceDenied, or GitFailed for what is not the remote's fault.
        """
        status, out, err = self._execute(args, cwd, text)
        if status != 0:
            raise self.error(err.decode(errors="replace"))
        return out

    def _execute(self, args: Sequence[str], cwd: Path, text: str) -> tuple[int, bytes, bytes]:
        unset = [word for name in _FOREIGN if name in os.environ for word in ("-u", name)]
        command = [*(["env", *unset] if unset else []), "git", *args]
        with tempfile.TemporaryFile() as stdin, self._environment() as env:
            stdin.write(text.encode())
            stdin.seek(0)
            try:
                result = git.Git(str(cwd)).execute(
                    command,
                    istream=stdin,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    env=env,
                    umask=0o022,  # modes in the checkout end up in the image
                )
            except git.GitCommandNotFound:
                raise ConfigError("git is not installed", fix="Install git (apt-get install git)") from None
        status, out, err = result
        return int(status), bytes(out), err.encode() if isinstance(err, str) else bytes(err)

    @contextmanager
    def _environment(self) -> Iterator[dict[str, str]]:
        env = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": self._protocols,
        }
        first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
        env["GIT_CONFIG_COUNT"] = str(first + len(self._config))
        for number, (key, value) in enumerate(self._config.items(), start=first):
            env[f"GIT_CONFIG_KEY_{number}"] = key
            env[f"GIT_CONFIG_VALUE_{number}"] = value
        with ExitStack() as files:
            options = ["-o BatchMode=yes", "-o ConnectTimeout=20", "-o ServerAliveInterval=20"]
            if self._private_key:
                key = files.enter_context(_in_memory(self._private_key))
                options += ["-o IdentitiesOnly=yes", f"-i {key}"]
            if self._known_hosts:
                known = files.enter_context(_in_memory(self._known_hosts))
                options += [f"-o UserKnownHostsFile={known}", "-o StrictHostKeyChecking=yes"]
            else:
                options.append("-o StrictHostKeyChecking=accept-new")
            if self._private_key or "GIT_SSH_COMMAND" not in os.environ:
                env["GIT_SSH_COMMAND"] = " ".join(["ssh", *options])
            yield env

    def error(self, stderr: str) -> LinkspanError:
        """What git's message means, without any secret."""
        for secret in self._secrets:
            stderr = stderr.replace(secret, "***")
        for words, kind, what, fix in _MEANINGS:
            if re.search(words, stderr, re.IGNORECASE):
                return kind(what.format(url=self.url), found=_line(stderr, words), fix=fix)
        return GitFailed(f"git failed on {self.url}", found=_line(stderr, "fatal|error"))


# The words of git 2.30 to 2.50, of ssh and of curl; the first match wins.
_MEANINGS: tuple[tuple[str, type[LinkspanError], str, str], ...] = (
    (
        r"dubious ownership",
        SourceDenied,
        "the git repository {url} belongs to another user",
        "Run `git config --global --add safe.directory <folder>` as the user who runs Linkspan",
    ),
    (
        r"Host key verification failed",
        SourceDenied,
        "the host key of {url} is not the known one",
        "Put the server's line of `ssh-keyscan` into known_hosts",
    ),
    (
        r"repository '.*' not found|Repository not found|returned error: 404|does not appear to be a git repo"
        r"|not exported",
        SourceDenied,
        "there is no git repository {url}, or these credentials may not see it",
        "Check the url and, for a private repository, the token",
    ),
    (
        r"Authentication failed|could not read (Username|Password)|Permission denied \("
        r"|returned error: 40[13]|access denied",
        SourceDenied,
        "the git repository {url} refuses these credentials",
        "Check user name and token, and that the token may read this repository",
    ),
    (
        r"SSL certificate|server certificate|self.signed",
        SourceDenied,
        "the certificate of {url} is not trusted here",
        "Set GIT_SSL_CAINFO to your company's CA bundle",
    ),
    (
        r"could not resolve host|name or service not known|unable to look up|failed to connect"
        r"|couldn't connect|unable to connect|connection (refused|reset|timed out|closed)|timed out|timeout"
        r"|hung up|early EOF|RPC failed|returned error: (429|5\d\d)|too slow|unexpected disconnect"
        r"|empty reply|no route to host|network is unreachable|handshake|unexpectedly closed|transfer closed",
        SourceUnavailable,
        "the git repository {url} cannot be reached",
        "Check the url and the network; the next run tries again",
    ),
    (
        r"transport '.*' not allowed",
        SourceDenied,
        "git may not use the address {url} or that of a submodule",
        "Use https, ssh, git or a folder",
    ),
)


def _line(stderr: str, words: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    wanted = next(
        (line for line in lines if re.search(words, line, re.IGNORECASE)), lines[-1] if lines else ""
    )
    return wanted[:300]


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path at which ssh finds `text`, and which no kill can leave behind. Linux only."""
    # ssh refuses a key without a last newline, which is what a pasted one often lacks.
    data = text.replace("\r\n", "\n").rstrip("\n") + "\n"
    with os.fdopen(os.memfd_create("linkspan"), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)  # what ssh asks of a key
        file.write(data)
        file.flush()
        # Of this process: ssh closes what it inherits.
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"
