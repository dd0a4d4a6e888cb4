"""Removing every trace of the cluster, also of one that was killed half-way or is from before a reboot."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster import parts
from tests.cluster.network import tear_down
from tests.cluster.places import (
    BRIDGE,
    CACHE,
    CGROUP,
    CONTAINERD,
    NETWORK,
    READY,
    STATE,
    ClusterError,
)

CGROUPS = Path("/sys/fs/cgroup")


def down() -> bool:
    """Remove it all but the built program; whether there was anything."""
    found = STATE.exists() or Path("/sys/class/net", BRIDGE).exists()
    if not found:
        return False
    READY.unlink(missing_ok=True)
    for name in parts.names():
        parts.stop(name)
    sockets = _sockets_of_shims()
    while pids := _processes() + _pids_in_cgroups():
        _kill(pids)
    for path in sockets:
        Path(path).unlink(missing_ok=True)
    _unmount()
    tear_down()
    _remove_cgroups()
    _remove_files()
    return True


def _sockets_of_shims() -> list[str]:
    """They are in a folder that all containerds share, for the path of a socket has to be short."""
    found = []
    for path in CONTAINERD.glob("state/*/*/*/bootstrap.json"):
        with suppress(ValueError, KeyError):  # it was killed as it wrote this
            found.append(str(json.loads(path.read_text())["address"]).removeprefix("unix://"))
    return found


def _pids_in_cgroups() -> list[int]:
    """All processes of all pods."""
    pids: set[int] = set()
    for group in _our_cgroups():
        pids.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return sorted(pids)


def _our_cgroups() -> list[Path]:
    """Children before their parents."""
    groups: list[Path] = []
    for root in [CGROUPS / CGROUP, *CGROUPS.glob(f"*/{CGROUP}")]:
        if root.is_dir() and not root.parent.is_symlink():
            groups += [Path(folder) for folder, _, _ in os.walk(root, topdown=False)]
    return groups


def _processes() -> list[int]:
    """Those between containerd and its containers, and a part that started just when `up` was killed."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            program, *arguments = path.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        ours = program.startswith(f"{CACHE}/") or Path(program).name.startswith("containerd")
        if ours and any(f"{STATE}/" in argument for argument in arguments):
            pids.append(int(path.parent.name))
    return pids


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself, as the processes of a pod do when its first one is killed
    if not parts.wait_gone(pids, 20):
        raise ClusterError(f"some of these processes do not end: {pids}")


def _unmount() -> None:
    """Everything mounted below our folder, the newest first."""
    for _ in range(3):
        mounts = _mounts()
        if not mounts:
            return
        for mount in reversed(mounts):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    if _mounts():
        raise ClusterError(f"still mounted, so nothing there is deleted: {', '.join(_mounts())}")


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return [point for point in points if point.startswith(f"{STATE.resolve()}/")]


def _remove_cgroups() -> None:
    end = time.monotonic() + 10
    while groups := _our_cgroups():
        for group in groups:
            try:
                group.rmdir()
            except OSError as error:  # the kernel takes a moment to see that the last process is gone
                if time.monotonic() > end:
                    raise ClusterError(f"{group} cannot be removed: {error}") from error
        time.sleep(0.02)


def _remove_files() -> None:
    """Our folder, and the few files that programs keep in places of their own."""
    shutil.rmtree(STATE, ignore_errors=False) if STATE.exists() else None
    results = Path("/var/lib/cni/results")
    for path in results.glob(f"{NETWORK}-*"):
        pod = path.name.removeprefix(f"{NETWORK}-").partition("-")[0]
        path.unlink()
        (results / f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
    plugins = Path("/var/lib/kubelet/device-plugins")
    for name in ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"):
        (plugins / name).unlink(missing_ok=True)
    for folder in (plugins, plugins.parent, results, results.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
