"""An engine that goes away in the middle of a stream."""

from collections.abc import Iterator
from contextlib import contextmanager

from urllib3.exceptions import HTTPError

from linkspan.docker_engine import reaching
from linkspan.errors import BuildUnavailable


@contextmanager
def reaching_engine() -> Iterator[None]:
    """`docker_engine.reaching` for builds, and for streams, where urllib3's errors come through."""
    with reaching(BuildUnavailable):
        try:
            yield
        except HTTPError as error:
            raise BuildUnavailable(
                "the Docker Engine went away in the middle",
                found=str(error)[:200],
                fix="The next run starts over",
            ) from None
