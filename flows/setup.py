"""Bring a Prefect server to what Linkspan needs: pool, queues, automations, blocks, deployments.

`python -m flows.setup` may be run again at any time. What is as it should be is left alone, deployments above
all: every `prefect deploy` deletes and makes anew the automations of its triggers, and events are lost
meanwhile (PREFECT.md). A deployment's version says what it was made from.
"""

import argparse
import asyncio
import copy
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import prefect
import yaml
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flows import load_flow_from_entrypoint
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker

import blocks
import linkspan
from flows import automations
from linkspan.errors import ConfigError, LinkspanError
from linkspan.local import tether
from linkspan.local.prefect_settings import POOL

ROOT = Path(__file__).parents[1]
PREFECT_FILE = ROOT / "prefect.yaml"
TIMEZONE = "linkspan_timezone"


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.setup", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--prefect-file", type=Path, default=PREFECT_FILE)
    parser.add_argument("--timezone", help="time zone of the schedules, such as Europe/Oslo")
    parser.add_argument("--force", action="store_true", help="deploy even if nothing changed")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(set_up(options.prefect_file.resolve(), timezone=options.timezone, force=options.force))
    except LinkspanError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


async def set_up(
    prefect_file: Path = PREFECT_FILE, *, timezone: str | None = None, force: bool = False
) -> None:
    """Do what is missing and say what was done. Raises ConfigError if prefect.yaml cannot be deployed."""
    wanted = deployments(prefect_file)
    async with get_client() as client:
        await _step("time zone of the schedules", ensure_timezone(timezone))
        await _step("work pool", ensure_pool(client))
        await _step("work queues", ensure_queues(client, sorted({each["queue"] for each in wanted})))
        await _step("automations", automations.ensure(client))
        version = await _version(prefect_file, wanted)
        if not force and await _versions(client, wanted) == {version}:
            _say("deployments and blocks: as they should be")
            return
        await _step("blocks", register_blocks())
        await _step("deployments", deploy(client, prefect_file, wanted, version))


def deployments(prefect_file: Path) -> list[dict[str, str]]:
    """Name (`flow/deployment`), entrypoint and queue of each deployment in the file. Raises ConfigError."""
    try:
        document = yaml.safe_load(prefect_file.read_text())
        return [
            {
                "name": f"{each['flow_name']}/{each['name']}",
                "entrypoint": each["entrypoint"],
                "queue": each["work_pool"]["work_queue_name"],
            }
            for each in document["deployments"]
        ]
    except FileNotFoundError:
        raise ConfigError(
            f"{prefect_file} is not there",
            fix="Run from a checkout of Linkspan, or name it with --prefect-file",
        ) from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{prefect_file} cannot be read: {error!r}") from error


async def ensure_timezone(timezone: str | None) -> bool:
    """Set the variable that prefect.yaml's schedules name; True if it changed."""
    found = await Variable.aget(TIMEZONE)
    wanted = timezone or found or "UTC"
    if found == wanted:
        return False
    await Variable.aset(TIMEZONE, wanted, overwrite=True)
    return True


async def ensure_pool(client: PrefectClient) -> bool:
    """A process pool whose runs start with one interpreter instead of two, and end with their worker."""
    template = copy.deepcopy(ProcessWorker.get_default_base_job_template())
    # The command is a default of the pool, so that prefect.yaml names no path of any machine.
    template["variables"]["properties"]["command"]["default"] = shlex.join(
        [sys.executable, "-ISs", tether.__file__, sys.executable, "-m", "prefect.engine"]
    )
    description = "Runs Linkspan's flows as processes of the worker's machine."
    try:
        pool: WorkPool = await client.read_work_pool(POOL)
    except ObjectNotFound:
        await client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", description=description, base_job_template=template)
        )
        return True
    if pool.base_job_template == template:
        return False
    await client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template, description=description))
    return True


async def ensure_queues(client: PrefectClient, names: list[str]) -> list[str]:
    """One queue per deployment, one run at a time, strictly in order; the names of those that changed."""
    changed = []
    for name in names:
        try:
            queue = await client.read_work_queue_by_name(name, work_pool_name=POOL)
        except ObjectNotFound:
            queue = await client.create_work_queue(name, work_pool_name=POOL)
        if queue.concurrency_limit != 1:
            await client.update_work_queue(queue.id, concurrency_limit=1)
            changed.append(name)
    return changed


async def register_blocks() -> list[str]:
    """Register the types in blocks/, so that the UI has their forms; their names."""
    for kind in blocks.ALL:
        await kind.aregister_type_and_schema()
    return [kind.__name__ for kind in blocks.ALL]


async def deploy(
    client: PrefectClient, prefect_file: Path, wanted: list[dict[str, str]], version: str
) -> list[str]:
    """`prefect deploy --all`, then write into each deployment from what it was made; their names."""
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all",
        "--prefect-file", str(prefect_file),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=prefect_file.parent,
        env={**os.environ, "PREFECT_CLI_COLORS": "false", "COLUMNS": "200"},
    )  # fmt: skip
    output, _ = await done.communicate()
    if done.returncode:
        raise ConfigError(f"`prefect deploy --all` failed:\n{output.decode(errors='replace')[-4000:]}")
    names = [each["name"] for each in wanted]
    for name in names:
        found = await client.read_deployment_by_name(name)
        await client.update_deployment(found.id, DeploymentUpdate(version=version))
    return names


async def _versions(client: PrefectClient, wanted: list[dict[str, str]]) -> set[str | None]:
    versions: set[str | None] = set()
    for each in wanted:
        try:
            versions.add((await client.read_deployment_by_name(each["name"])).version)
        except ObjectNotFound:
            versions.add(None)
    return versions


async def _version(prefect_file: Path, wanted: list[dict[str, str]]) -> str:
    """A name for all that is deployed: if it is the same, deploying again would change nothing."""
    text = await asyncio.to_thread(prefect_file.read_text)
    parts: list[object] = [text, await Variable.aget(TIMEZONE), prefect.__version__]
    for each in wanted:
        try:
            flow: Flow[..., Any] = load_flow_from_entrypoint(each["entrypoint"])
        except (ImportError, AttributeError, PrefectException) as error:
            raise ConfigError(f"{prefect_file}: {each['entrypoint']} cannot be loaded: {error}") from error
        parts += [flow.description, flow.parameters.model_dump(mode="json")]
    parts += [kind.model_json_schema() for kind in blocks.ALL]
    content = json.dumps(parts, sort_keys=True, default=str).encode()
    return f"{linkspan.__version__}+{hashlib.sha256(content).hexdigest()[:8]}"


async def _step(what: str, work: Any) -> None:
    begin = time.monotonic()
    result = await work
    done = ", ".join(result) if isinstance(result, list) else "set" if result else ""
    _say(f"{what}: {done or 'as they should be'} ({time.monotonic() - begin:.1f} s)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
