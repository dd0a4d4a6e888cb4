"""Where releases run: a Docker Engine."""

from prefect.blocks.core import Block

from linkspan.runtimes.docker.runtime import DockerRuntimeSettings


class DockerRuntime(DockerRuntimeSettings, Block):
    """Runs releases on one Docker Engine behind nginx, without a failed request."""

    _block_type_name = "Docker runtime"
    _block_type_slug = "docker-runtime"
