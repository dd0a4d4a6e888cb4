"""Where releases run: a Kubernetes cluster."""

from prefect.blocks.core import Block

from linkspan.runtimes.kubernetes.runtime import KubernetesRuntimeSettings


class KubernetesRuntime(KubernetesRuntimeSettings, Block):
    """Runs releases on a Kubernetes cluster: AKS, EKS or any other."""

    _block_type_name = "Kubernetes runtime"
    _block_type_slug = "kubernetes-runtime"
