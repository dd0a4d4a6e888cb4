"""The git source against git's own servers: a folder, git daemon, and smart HTTP with Basic auth."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from linkspan.code.source import GitSettings, GitSource
from linkspan.errors import CommitNotFound, ConfigError, SourceDenied, SourceUnavailable
from linkspan.processes import free_port
from tests.repos import GitHttp, Repository, git_daemon
from tests.waiting import until

TOKEN = "t0ken-of-nobody"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "served")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def http(tmp_path: Path) -> Iterator[GitHttp]:
    server = GitHttp(tmp_path / "served", "ada", TOKEN)
    yield server
    server.stop()


class Held(list[str]):
    """The requests of a server that holds its answer to what a fetch asks last: for the objects."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.go_on = threading.Event(), threading.Event()

    def append(self, path: str) -> None:
        super().append(path)
        if path.endswith("/git-upload-pack") and self.count(path) == 2:
            self.waits.set()
            self.go_on.wait(600)


def folder_source(repo: Repository, cache: Path, folder: str = "", branch: str = "main") -> GitSource:
    return GitSettings(url=str(repo.bare), folder=folder, branch=branch).open(cache)


def http_source(http: GitHttp, cache: Path, token: str = TOKEN, name: str = "app.git") -> GitSource:
    return GitSettings(url=f"{http.url}/{name}", username="ada", token=SecretStr(token)).open(cache)


def test_newest_is_asked_from_the_server_every_time(repo: Repository, cache: Path) -> None:
    first = repo.commit({"a.txt": "1"}, "The first")
    source = folder_source(repo, cache)
    newest = source.newest()
    assert newest is not None
    assert (newest.sha, newest.subject, newest.author) == (first, "The first", "Ada Lovelace")
    assert newest.tree == repo.git("rev-parse", "HEAD^{tree}")
    assert newest.committed_at.tzinfo is not None
    second = repo.commit({"a.txt": "2"}, "The second")
    assert source.newest().sha == second  # type: ignore[union-attr]


def test_recent_follows_first_parents(repo: Repository, cache: Path) -> None:
    first = repo.commit({"a.txt": "1"})
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"b.txt": "1"}, "On the side")
    repo.git("checkout", "-q", "main")
    second = repo.commit({"a.txt": "2"})
    repo.git("merge", "-q", "--no-ff", "-m", "Merge", "side")
    merge = repo.git("rev-parse", "HEAD")
    repo.push()
    source = folder_source(repo, cache)
    assert [commit.sha for commit in source.recent()] == [merge, second, first]
    assert [commit.sha for commit in source.recent(2)] == [merge, second]


def test_the_tree_is_that_of_the_folder(repo: Repository, cache: Path) -> None:
    repo.commit({"README.md": "before the app"})
    repo.commit({"services/digits one/Dockerfile": "FROM x"})
    repo.commit({"README.md": "not the app"})
    repo.commit({"services/digits one/Dockerfile": "FROM y"})
    source = folder_source(repo, cache, folder="/services/digits one/")
    recent = source.recent()
    assert len(recent) == 3
    assert recent[0].tree != recent[1].tree == recent[2].tree
    assert recent[0].tree == repo.git("rev-parse", "HEAD:services/digits one")


def test_a_missing_folder_is_named(repo: Repository, cache: Path) -> None:
    repo.commit({"app/x": "1", "file": "1"})
    for folder in ("ap", "file"):
        with pytest.raises(ConfigError, match=f"no folder '{folder}' on main"):
            folder_source(repo, cache, folder=folder).newest()


def test_an_empty_repository_has_nothing_yet(repo: Repository, cache: Path) -> None:
    source = folder_source(repo, cache)
    assert source.newest() is None
    assert source.recent() == []
    assert "is empty" in source.check()
    with pytest.raises(CommitNotFound):
        source.commit("abcd")
    sha = repo.commit({"a": "1"})
    assert source.newest().sha == sha  # type: ignore[union-attr]
    assert source.check().endswith(f"main is at {sha[:7]}")


def test_the_head_is_asked_without_fetching_anything(repo: Repository, cache: Path) -> None:
    source = folder_source(repo, cache)
    assert source.head() is None
    for word in ("one", "two"):
        sha = repo.commit({"a": word})
        assert source.head() == sha
    assert not list(cache.glob("*.git"))


def test_a_missing_branch_is_an_error_that_names_the_others(repo: Repository, cache: Path) -> None:
    repo.commit({"a": "1"})
    source = folder_source(repo, cache, branch="mian")
    for call in (source.newest, source.recent, source.check, source.head):
        with pytest.raises(ConfigError, match=r"no branch 'mian'.*expected one of main.*Did you mean 'main'"):
            call()


def test_a_commit_by_prefix(repo: Repository, cache: Path) -> None:
    sha = repo.commit({"a": "1"})
    source = folder_source(repo, cache)
    assert source.commit(sha[:7]).sha == sha
    assert source.commit(sha.upper()).sha == sha
    later = repo.commit({"a": "2"})
    assert source.commit(later[:10]).sha == later
    for wrong in ("0" * 40, "00000", "abc", "main", "-x", repo.git("rev-parse", "HEAD^{tree}")):
        with pytest.raises(CommitNotFound):
            source.commit(wrong)


def test_a_forced_push_takes_commits_away(repo: Repository, cache: Path) -> None:
    first = repo.commit({"a": "1"})
    source = folder_source(repo, cache)
    gone = repo.commit({"a": "2"})
    assert source.newest().sha == gone  # type: ignore[union-attr]
    repo.git("reset", "-q", "--hard", first)
    other = repo.commit({"a": "3"})
    assert [commit.sha for commit in source.recent()] == [other, first]
    with pytest.raises(CommitNotFound, match="not on branch main"):
        source.commit(gone)


def test_an_ambiguous_prefix_is_refused(repo: Repository, cache: Path) -> None:
    # Enough commits that two share four characters: 400 of 65536 give 70 %, so the pair is looked for.
    tree = repo.git("write-tree")
    seen: dict[str, str] = {}
    parent: list[str] = []
    for number in range(5000):
        sha = repo.git("commit-tree", *parent, "-m", f"{number}", tree)
        parent = ["-p", sha]
        if sha[:4] in seen:
            break
        seen[sha[:4]] = sha
    repo.git("reset", "-q", "--soft", sha)
    repo.push()
    source = folder_source(repo, cache)
    with pytest.raises(CommitNotFound, match="more than one"):
        source.commit(sha[:4])
    assert source.commit(sha).sha == sha


def test_unusual_names_and_words(repo: Repository, cache: Path) -> None:
    repo.git("config", "user.name", "x")
    repo.commit({"a": "1"}, "Ünïcode \x1b[31mred\x07 | \u2028 and 'quotes'\n\nBody\n")
    commit = folder_source(repo, cache).newest()
    assert commit is not None
    assert commit.subject == "Ünïcode red |   and 'quotes'"


@pytest.mark.parametrize(
    "date", ["-5 +0000", "1700000000 +9999", "253402300800 +0000", "no date", "1700000000"]
)
def test_a_date_that_is_none_stops_nobody(repo: Repository, cache: Path, date: str) -> None:
    """Histories that other tools converted hold such commits, and git takes them."""
    first = repo.commit({"a": "1"})
    tree = repo.git("rev-parse", "HEAD^{tree}")
    odd = repo.work / "odd"
    odd.write_text(f"tree {tree}\nparent {first}\nauthor Eve <e> 1 +0000\ncommitter Eve <e> {date}\n\nOdd\n")
    sha = repo.git("hash-object", "-t", "commit", "-w", "--literally", str(odd))
    repo.git("update-ref", "refs/heads/main", sha)
    repo.push()
    assert [commit.sha for commit in folder_source(repo, cache).recent()] == [sha, first]


def test_checkout_is_exactly_the_commit(repo: Repository, cache: Path) -> None:
    repo.commit(
        {"app/Dockerfile": "FROM one", "app/run.sh": "#!/bin/sh", "other": "1", ".gitignore": "*.log"}
    )
    repo.git("update-index", "--chmod=+x", "app/run.sh")
    (repo.work / "app/run.sh").chmod(0o755)
    old = repo.commit({}, "Executable")
    repo.commit({"app/Dockerfile": "FROM two", "app/new": "x"})
    source = folder_source(repo, cache, folder="app")
    with source.checkout(source.commit(old)) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["Dockerfile", "run.sh"]
        assert (folder / "Dockerfile").read_text() == "FROM one"
        assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
        assert (folder / "Dockerfile").stat().st_mode & 0o777 == 0o644
        assert not list(folder.parent.rglob(".git"))
        place = folder
    assert not place.exists()
    root = folder_source(repo, cache)
    with root.checkout(root.commit(old)) as folder:
        assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "app", "other"]


def test_a_commit_found_on_another_machine_is_fetched(repo: Repository, tmp_path: Path) -> None:
    source = folder_source(repo, tmp_path / "one")
    repo.commit({"a": "1"})
    elsewhere = folder_source(repo, tmp_path / "two")
    elsewhere.newest()
    repo.commit({"a": "2"})
    commit = source.newest()
    assert commit is not None
    with elsewhere.checkout(commit) as folder:
        assert (folder / "a").read_text() == "2"


def test_line_ends_are_those_of_the_repository(
    repo: Repository, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit({"unix": "a\nb\n"})
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n autocrlf = true\n hooksPath = {tmp_path}\n")
    hook = tmp_path / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    source = folder_source(repo, cache)
    with source.checkout(source.recent()[0]) as folder:
        assert (folder / "unix").read_bytes() == b"a\nb\n"
    assert not (tmp_path / "hook-ran").exists()


def test_submodules_are_there(repo: Repository, cache: Path, tmp_path: Path) -> None:
    library = Repository(tmp_path / "served", "library")
    library.commit({"lib.py": "x = 1"})
    repo.git("submodule", "--quiet", "add", "../library.git", "vendor/library")
    repo.commit({"a": "1"})
    source = folder_source(repo, cache)
    with source.checkout(source.recent()[0]) as folder:
        assert (folder / "vendor/library/lib.py").read_text() == "x = 1"
        assert not list(folder.rglob(".git"))


@pytest.mark.skipif(shutil.which("git-lfs") is not None, reason="git-lfs is installed")
def test_lfs_pointers_are_never_built(repo: Repository, cache: Path) -> None:
    repo.commit({".gitattributes": "*.bin filter=lfs -text\n", "a.txt": "1"})
    source = folder_source(repo, cache)
    with source.checkout(source.recent()[0]):
        pass  # nothing matches, so git-lfs is not needed
    repo.commit({"weights.bin": "version https://git-lfs.github.com/spec/v1\n"})
    with pytest.raises(ConfigError, match="git-lfs is not installed"), source.checkout(source.recent()[0]):
        pass


def test_read_a_file_of_a_commit(repo: Repository, cache: Path) -> None:
    repo.commit({"app/linkspan.toml": "name = 'x'", "linkspan.toml": "root", "app/sub/f": "1"})
    source = folder_source(repo, cache, folder="app")
    commit = source.recent()[0]
    assert source.read(commit, "linkspan.toml") == b"name = 'x'"
    assert source.read(commit, "nothing here") is None
    assert source.read(commit, "sub") is None


def test_inside_a_hook_of_git(repo: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = repo.commit({"a": "1"})
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    source = folder_source(repo, cache)
    with source.checkout(source.commit(sha)) as folder:
        assert (folder / "a").read_text() == "1"


def test_git_daemon(repo: Repository, cache: Path) -> None:
    sha = repo.commit({"a": "1"})
    with git_daemon(repo.bare.parent) as address:
        source = GitSettings(url=f"{address}/app.git").open(cache)
        assert source.newest().sha == sha  # type: ignore[union-attr]
        with pytest.raises(SourceDenied, match="there is no git repository"):
            GitSettings(url=f"{address}/nothing.git").open(cache).newest()
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        source.newest()
    assert source.commit(sha).sha == sha  # what is in the mirror can be had without the server


def test_http_with_a_token(repo: Repository, cache: Path, http: GitHttp) -> None:
    sha = repo.commit({"a": "1"})
    source = http_source(http, cache)
    assert source.newest().sha == sha  # type: ignore[union-attr]
    assert "main is at" in source.check()
    assert set(http.users) == {"ada"}
    with source.checkout(source.commit(sha)) as folder:
        assert (folder / "a").read_text() == "1"
    held = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert TOKEN.encode() not in held
    assert b"Authorization" not in held


@pytest.mark.parametrize("token", ["wrong-token", ""])
def test_http_with_a_wrong_token(repo: Repository, cache: Path, http: GitHttp, token: str) -> None:
    repo.commit({"a": "1"})
    source = http_source(http, cache, token)
    for call in (source.newest, source.check):
        with pytest.raises(SourceDenied, match="refuses these credentials") as caught:
            call()
        assert "wrong-token" not in repr(caught.value) + str(caught.value)


def test_http_errors(repo: Repository, cache: Path, http: GitHttp) -> None:
    repo.commit({"a": "1"})
    source = http_source(http, cache)
    for status in (500, 503, 429):
        http.status = status
        with pytest.raises(SourceUnavailable, match=str(status)):
            source.newest()
    http.status = 403
    with pytest.raises(SourceDenied, match="403"):
        source.newest()
    http.status = 0
    with pytest.raises(SourceDenied, match="there is no git repository"):
        http_source(http, cache, name="nothing.git").newest()
    http.stop()
    with pytest.raises(SourceUnavailable):
        source.newest()


def test_the_token_is_in_no_argument_list(repo: Repository, cache: Path, http: GitHttp) -> None:
    repo.commit({"a": "1"})
    seen: set[str] = set()
    done = threading.Event()
    http.requests = held = Held()

    def watch() -> None:
        while not done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes().decode(errors="replace").replace("\0", " "))
                except OSError:
                    continue
            if any("fetch" in command and "app.git" in command for command in seen):
                held.go_on.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(3):
            http_source(http, cache).newest()
    finally:
        done.set()
        watcher.join()
    assert any("fetch" in command and "app.git" in command for command in seen)
    assert not any(TOKEN in command or "Authorization" in command for command in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "https://ada:s3cret@example.com/x"}, "holds a password"),
        ({"url": "ext::sh -c true"}, "no git repository"),
        ({"url": "--upload-pack=true"}, "no git repository"),
        ({"url": ""}, "no git repository"),
        ({"url": "/x", "branch": "-x"}, "cannot be a branch"),
        ({"url": "/x", "branch": "a b"}, "cannot be a branch"),
        ({"url": "/x", "folder": "../y"}, "not in the repository"),
        ({"url": "git@example.com:x", "token": SecretStr("s3cret")}, "a token cannot be used"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str, cache: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        GitSettings.model_validate(settings).open(cache)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_not_there(cache: Path, tmp_path: Path) -> None:
    port = free_port()
    for url in (f"https://127.0.0.1:{port}/x", f"git://127.0.0.1:{port}/x", f"ssh://git@127.0.0.1:{port}/x"):
        if url.startswith("ssh") and shutil.which("ssh") is None:
            continue
        with pytest.raises(SourceUnavailable):
            GitSettings(url=url, private_key=SecretStr(KEY)).open(cache).newest()
    with pytest.raises(SourceDenied, match="there is no git repository"):
        GitSettings(url=str(tmp_path / "nothing")).open(cache).newest()


def test_the_private_key_is_a_file_in_memory_for_ssh_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh notes what it was given: mode, content and arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >{tmp_path}/args\n'
        'while [ "$1" != -i ]; do shift; done\n'
        f'stat -Lc %a "$2" >{tmp_path}/mode; cp "$2" {tmp_path}/key; echo "$2" >{tmp_path}/path\n'
        'echo "git@host: Permission denied (publickey)." >&2; exit 255\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    settings = GitSettings(
        url="git@example.com:team/app.git", private_key=SecretStr(KEY), known_hosts="example.com ssh-rsa AA"
    )
    with pytest.raises(SourceDenied, match="refuses these credentials"):
        settings.open(tmp_path / "cache").newest()
    assert (tmp_path / "mode").read_text().strip() == "600"
    assert (tmp_path / "key").read_text() == KEY + "\n"
    assert "StrictHostKeyChecking=yes" in (tmp_path / "args").read_text()
    assert "BEGIN" not in (tmp_path / "args").read_text()
    path = Path((tmp_path / "path").read_text().strip())
    assert path.is_relative_to("/proc")  # no kill can leave it in a folder
    assert not path.exists()


@pytest.mark.parametrize(
    "damage", ["objects", "packs", "head", "ref-lock", "garbage-ref", "not-a-repository"]
)
def test_a_damaged_mirror_is_made_again(repo: Repository, cache: Path, damage: str) -> None:
    repo.commit({"a": "1"})
    source = folder_source(repo, cache)
    commit = source.newest()
    assert commit is not None
    (mirror,) = cache.glob("*.git")
    match damage:
        case "objects":
            shutil.rmtree(mirror / "objects")
        case "packs":
            for path in (mirror / "objects").rglob("*"):
                if path.is_file():
                    path.chmod(0o644)
                    path.write_bytes(b"garbage")
        case "head":
            (mirror / "HEAD").write_text("")
        case "ref-lock":
            (mirror / "refs/heads/main.lock").touch()
            repo.commit({"a": "2"})
        case "garbage-ref":
            (mirror / "refs/heads/main").write_text("garbage\n")
        case _:
            shutil.rmtree(mirror)
            mirror.mkdir()
    with source.checkout(commit) as folder:
        assert (folder / "a").read_text() == "1"
    assert source.newest().sha == repo.git("rev-parse", "HEAD")  # type: ignore[union-attr]
    assert source.recent()[-1] == commit


@pytest.mark.slow
def test_a_killed_fetch_is_survived(repo: Repository, cache: Path, http: GitHttp) -> None:
    blob = os.urandom(4_000_000).hex()
    http.requests = held = Held()
    sha = repo.commit({"big": blob})
    code = (
        "import sys; from pathlib import Path; from linkspan.code.source import GitSettings\n"
        "GitSettings(url=sys.argv[1], username='ada', token=sys.argv[2]).open(Path(sys.argv[3])).newest()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"{http.url}/app.git", TOKEN, str(cache)], start_new_session=True
    )

    def fetches() -> bool:
        assert process.poll() is None, "it ended before it could be killed"
        return held.waits.is_set()

    until(fetches)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    held.go_on.set()
    source = http_source(http, cache)
    with source.checkout(source.commit(sha)) as folder:
        assert (folder / "big").read_text() == blob


def test_many_at_once(repo: Repository, cache: Path) -> None:
    sha = repo.commit({"a": "1"})

    def look(_: int) -> str:
        source = folder_source(repo, cache)
        commit = source.newest()
        assert commit is not None
        with source.checkout(commit) as folder:
            return commit.sha + (folder / "a").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(look, range(8))) == {sha + "1"}
