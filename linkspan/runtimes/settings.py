"""What every runtime's settings can do, so that a flow needs not know which one a block is."""

from abc import abstractmethod
from collections.abc import Mapping

from pydantic import BaseModel

from linkspan.runtimes.base import Runtime


class RuntimeSettings(BaseModel):
    """Settings of a runtime. Subclasses add where it is, and say how to open it."""

    @abstractmethod
    def open(self, registry_auth: Mapping[str, str] | None = None) -> Runtime:
        """The runtime; `registry_auth` is {"username": …, "password": …} for pulls."""
