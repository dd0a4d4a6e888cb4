"""The demo's cluster: the one that KUBECONFIG names, else one of the project's own, removed afterwards."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import SecretStr

from demo.machine import run_script
from demo.places import APP, ENVIRONMENT, ROOT, WORLD
from demo.show import done
from linkspan.errors import ConfigError
from linkspan.prefect_api.server import Server
from linkspan.runtimes.kubernetes.runtime import KubernetesRuntime, KubernetesRuntimeSettings
from tests.cluster.places import ADMIN, KUBECTL

NAMESPACE = f"{APP}-{ENVIRONMENT}"
BLOCK = f"kubernetes-runtime/{NAMESPACE}"
DEPLOYMENT = f"build-and-deploy/{NAMESPACE}"
OURS = WORLD / "cluster-of-the-demo"
RIGHTS = WORLD / "rights-of-the-demo"
"""Written down before they are made: a demo that is killed half-way removes them too, and nobody else's."""


class DemoCluster:
    """A cluster in which Linkspan's own account may release the sample, and do nothing else."""

    def __init__(self) -> None:
        given = os.environ.get("KUBECONFIG", "")
        self._kubectl = shutil.which("kubectl") or "" if given else str(KUBECTL)
        self._admin = Path(given) if given else ADMIN
        if given and not self._kubectl:
            raise ConfigError(
                "KUBECONFIG is set, but there is no kubectl", fix="Install it, or unset KUBECONFIG"
            )

    def start(self) -> None:
        """Have a cluster, and give Linkspan's account its rights, as the README tells an administrator to."""
        if self._admin == ADMIN:
            ours = "already" not in run_script("cluster.sh", "up")
            if ours:
                OURS.parent.mkdir(parents=True, exist_ok=True)
                OURS.touch()
            done("Kubernetes", "a cluster of one node, " + ("started" if ours else "up already"))
        if not self._run("get", "namespace", "linkspan", "--ignore-not-found").strip():
            RIGHTS.parent.mkdir(parents=True, exist_ok=True)
            RIGHTS.touch()
        self._run("apply", "-k", str(ROOT / "k8s" / "linkspan"))
        self._run("create", "namespace", NAMESPACE)
        self._run(
            *("create", "rolebinding", "linkspan", "-n", NAMESPACE),
            *("--clusterrole=linkspan-deployer", "--serviceaccount=linkspan:linkspan"),
        )
        done("Rights", f"service account linkspan may release to namespace {NAMESPACE}, and do nothing else")

    def settings(self) -> KubernetesRuntimeSettings:
        """Settings with the account's kubeconfig."""
        config = yaml.safe_load(self._run("config", "view", "--raw", "--minify", "--flatten"))
        token = self._run("create", "token", "linkspan", "-n", "linkspan", "--duration=8h").strip()
        config["users"] = [{"name": "linkspan", "user": {"token": token}}]
        config["contexts"][0]["context"]["user"] = "linkspan"
        return KubernetesRuntimeSettings(kubeconfig=SecretStr(json.dumps(config)))

    def link(self, server: Server, settings: KubernetesRuntimeSettings) -> None:
        """Save the block, and let the environment's deployment use it."""
        assert settings.kubeconfig is not None
        server.save_block(BLOCK, {"kubeconfig": settings.kubeconfig.get_secret_value()})
        server.set_parameters(DEPLOYMENT, {"runtime": BLOCK})

    def open(self, auth: Mapping[str, str] | None) -> KubernetesRuntime:
        """The runtime, as the flows open it."""
        return self.settings().open(auth)

    def _run(self, *arguments: str) -> str:
        result = subprocess.run(
            [self._kubectl, *arguments],
            env={**os.environ, "KUBECONFIG": str(self._admin)},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ConfigError(f"kubectl {' '.join(arguments[:3])} failed: {result.stderr.strip()[-500:]}")
        return result.stdout

    def remove(self) -> None:
        """Remove what `start` made."""
        if OURS.exists():
            run_script("cluster.sh", "down")
            return
        if self._admin.exists():
            self._run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true", "--timeout=120s")
            if RIGHTS.exists():
                self._run("delete", "-k", str(ROOT / "k8s" / "linkspan"), "--ignore-not-found", "--wait=true")
                RIGHTS.unlink()
