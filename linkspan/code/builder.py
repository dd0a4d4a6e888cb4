"""Builds the code image of a commit with the Docker Engine, tests and pushes it. It never holds a model."""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import docker
import requests
from docker.errors import APIError, DockerException
from pydantic import BaseModel, Field
from urllib3.exceptions import HTTPError

from linkspan.code import apptests, local_images
from linkspan.code import push as pushing
from linkspan.code.dockerfile import base_images, default_base, read_dockerfile, takes_base
from linkspan.code.output import Lines
from linkspan.config import AppConfig, TestSection
from linkspan.engine import engine, reaching
from linkspan.errors import BuildError, BuildFailed, BuildUnavailable, ConfigError
from linkspan.ledger.labels import code_labels
from linkspan.nouns import Commit, Digest, sha256
from linkspan.progress import Say, Transfer
from linkspan.runtimes.base import KubeObject

_NOISE = re.compile(r" ---> (Running in )?[0-9a-f]+\n|Removing intermediate container .*\n")


class BuilderSettings(BaseModel):
    """How code images are built: by which Docker Engine, and what it is told."""

    base_url: str = Field(
        default="", description="Docker Engine, such as unix:///var/run/docker.sock; empty: this machine's"
    )
    network_mode: str = Field(
        default="", description="Network of RUN steps; `host` where the engine's own network has no way out"
    )
    build_args: list[str] = Field(
        default_factory=list,
        description="Build arguments, NAME=value each. No secrets: they stay in the image",
    )
    ca_bundle: str = Field(
        default="",
        description="PEM file on the worker for a company's TLS proxy; the Dockerfile must have ARG BASE",
    )
    memory: str = Field(
        default="4g", description="Memory a build step or the tests may take, such as 512m or 4g"
    )
    timeout_seconds: float = Field(default=3600, gt=0, description="Longest build")

    def open(self) -> "Builder":
        """A builder on a connected engine. Raises BuildUnavailable (retriable), ConfigError."""
        args = _arguments(self.build_args)
        if not re.fullmatch(r"[1-9][0-9]*[kmg]", self.memory):
            raise ConfigError(f"the builder's memory {self.memory!r}", expected="a size such as 512m or 4g")
        bundle = local_images.read_bundle(self.ca_bundle) if self.ca_bundle else b""
        client = engine(self.base_url, unavailable=BuildUnavailable, timeout_seconds=self.timeout_seconds)
        return Builder(client, self, args, bundle)


def _arguments(lines: list[str]) -> dict[str, str]:
    for line in lines:
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", line):
            raise ConfigError(f"build argument {line!r}", expected="NAME=value")
    return dict(line.split("=", 1) for line in lines)


class Builder:
    """A Docker Engine that builds. `pushed` are the layers that it has pushed, for `push.moved`."""

    def __init__(
        self, client: docker.DockerClient, settings: BuilderSettings, args: Mapping[str, str], bundle: bytes
    ) -> None:
        self._client = client
        self._settings = settings
        self._args = dict(args)
        self._bundle = bundle
        self.pushed: frozenset[str] = frozenset()

    def key(self, folder: Path, commit: Commit, *, refresh: bool = False, say: Say) -> str:
        """The build key of a checked-out commit: the same key, the same image.

        Base images are pulled where they are missing; `refresh` asks for newer ones. Raises ConfigError,
        BuildFailed for a base image that does not exist, BuildUnavailable (retriable).
        """
        images = base_images(read_dockerfile(folder), self._args)
        with reaching(BuildUnavailable):
            ids = [local_images.base_id(self._client, image, refresh=refresh, say=say) for image in images]
            version = self._client.version()
        options = [f"{name}={value}" for name, value in self._args.items()]
        if self._bundle:
            options.append(f"ca_bundle {sha256(self._bundle)}")
        return build_key(commit.tree, ids, options, f"{version['Os']}/{version['Arch']}")

    def build(
        self,
        folder: Path,
        *,
        commit: Commit,
        config: AppConfig,
        objects: Sequence[KubeObject] = (),
        tag: str,
        say: Say,
    ) -> str:
        """Build the image of the app in `folder` as `tag`; returns its ID. Output goes to `say` line by line.

        `objects` are the app's Kubernetes ones, which the image carries in a label.
        Raises BuildFailed with the step that failed and the last lines of output, ConfigError without a
        Dockerfile, BuildUnavailable (retriable) if the engine goes away.
        """
        text = read_dockerfile(folder)
        labels = code_labels(config.name, commit, config, objects)
        with reaching(BuildUnavailable):
            for image in base_images(text, self._args):
                local_images.base_id(self._client, image, refresh=False, say=say)
            args = self._build_arguments(text, say)
            try:
                image_id = self._run(folder, args, labels, tag, say)
            finally:
                local_images.tidy(self._client, config.name, tag)
        return image_id

    def test(self, image: str, test: TestSection, *, say: Say) -> None:
        """Run the app's tests inside `image`. Raises AppTestsFailed, BuildUnavailable (retriable)."""
        apptests.run_tests(self._client, image, test, memory=self._settings.memory, say=say)

    def push(
        self, image: str, repository: str, tag: str, auth: Mapping[str, str] | None = None, *, say: Say
    ) -> Digest:
        """Push `image` as `repository:tag`; returns the digest of its manifest.

        Raises RegistryDenied, RegistryFull, RegistryUnavailable (retriable), RegistryError.
        """
        digest, layers = pushing.push(self._client, image, repository, tag, auth, say=say)
        self.pushed |= layers
        return digest

    def check(self) -> str:
        """A line for people about the engine. Raises BuildUnavailable (retriable)."""
        with reaching(BuildUnavailable):
            version = self._client.version()
        return f"Docker Engine {version['Version']} ({version['Os']}/{version['Arch']})"

    def close(self) -> None:
        """Let go of the engine."""
        self._client.close()

    def _build_arguments(self, dockerfile: str, say: Say) -> dict[str, str]:
        if not self._bundle:
            return dict(self._args)  # docker-py adds to what it is given
        if not takes_base(dockerfile):
            raise ConfigError(
                "the builder has a ca_bundle and the Dockerfile cannot take another base",
                expected="ARG BASE=python:3.11-slim, then FROM ${BASE}",
            )
        base = self._args.get("BASE") or default_base(dockerfile)
        found = local_images.base_id(self._client, base, refresh=False, say=say)
        ours = {"dev.linkspan.role": "base"}
        return {**self._args, "BASE": local_images.with_bundle(self._client, found, self._bundle, ours)}

    def _run(self, folder: Path, args: dict[str, str], labels: dict[str, str], tag: str, say: Say) -> str:
        memory = _bytes(self._settings.memory)
        lines, transfer = Lines(say), Transfer("pulling:", say)
        step, image_id = "reading the Dockerfile", ""
        end = time.monotonic() + self._settings.timeout_seconds
        try:
            output = self._client.api.build(
                path=str(folder),
                tag=tag,
                rm=True,
                forcerm=True,
                buildargs=args,
                labels=labels,
                network_mode=self._settings.network_mode or None,
                container_limits={"memory": memory, "memswap": memory},
                timeout=max(1, round(self._settings.timeout_seconds)),
                decode=True,
            )
            for line in output:
                if "error" in line:
                    lines.close()
                    raise _failed(step, str(line["error"]), lines.tail)
                if str(line.get("stream", "")).startswith("Step "):
                    step = str(line["stream"]).strip()
                if not _NOISE.fullmatch(str(line.get("stream", ""))):
                    lines.feed(str(line.get("stream", "")))
                detail = line.get("progressDetail") or {}
                if "current" in detail:
                    transfer.update(str(line.get("id", "")), detail["current"], detail.get("total") or 0)
                image_id = (line.get("aux") or {}).get("ID", image_id)
                if time.monotonic() > end:
                    raise self._too_long(step, lines)
        except APIError as error:
            raise _failed(step, str(error.explanation or error), lines.tail) from None
        except (requests.RequestException, HTTPError) as error:
            if "timed out" in str(error):
                raise self._too_long(step, lines) from None
            raise
        except (DockerException, OSError) as error:
            # What docker-py finds wrong with the folder or the tag before it asks the engine.
            raise BuildFailed(f"the build of {tag} cannot be started", found=error) from None
        lines.close()
        if not image_id:
            raise BuildFailed(f"the engine built {tag} and did not say which image it is")
        return image_id

    def _too_long(self, step: str, lines: Lines) -> BuildFailed:
        self._client.close()  # the engine stops a build whose client is gone
        return BuildFailed(
            f"the build took longer than {self._settings.timeout_seconds:g} s, at {step}\n{lines.tail}\n",
            fix="Make it quicker, or raise the builder's timeout_seconds",
        )


def _bytes(memory: str) -> int:
    return int(memory[:-1]) << {"k": 10, "m": 20, "g": 30}[memory[-1]]


def _failed(step: str, error: str, tail: str) -> BuildError:
    if re.search(r"no space left on device", error + tail, re.IGNORECASE):
        return BuildFailed(
            f"the engine's disk is full, at {step}",
            found=error,
            fix="Free space: `docker system df` shows what takes it",
        )
    fix = ""
    if "requires BuildKit" in error or "unknown instruction" in error:
        fix = "The Docker SDK builds without BuildKit: no RUN --mount, COPY --chmod or <<EOF"
    if re.search(r"returned a non-zero code: 137", error):
        fix = "The step was killed: it probably took more memory than the builder's setting allows"
    return BuildFailed(f"the code image does not build, at {step}\n{tail}\n", found=error, fix=fix)


# Raise it when the same input would be built to something else by this version of Linkspan.
_SCHEME = 2


def build_key(tree: str, base_ids: Sequence[str], options: Sequence[str], platform: str) -> str:
    """32 hex digits, the same for the same input on every machine.

    `tree` is the git tree of the app's folder, `base_ids` are the IDs of the images it builds on, in the
    Dockerfile's order, `options` are build arguments and whatever else changes the result.
    """
    parts = [_SCHEME, tree, list(base_ids), sorted(options), platform]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
