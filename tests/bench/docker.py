"""How long it takes until users of one machine have what was published or pushed: the sample app, nginx.

Everything is real and on this machine: worker, registry, Docker Engine, the sample app with its own image,
tests and model, and the commands that people type.
"""

from tests.bench.figures import Figure, Say
from tests.bench.releases import sample_figures
from tests.bench.sample import SampleWorld
from tests.bench.stage import stage


def measure(say: Say) -> list[Figure]:
    """Publish and push."""
    with stage(say, SampleWorld, None) as world:
        return sample_figures(world, "docker", say)
