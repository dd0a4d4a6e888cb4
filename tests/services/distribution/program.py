"""Distribution 3 as a program; `python -m tests.services.distribution.program` builds it."""

import sys
from pathlib import Path

from tests import gomodule
from tests.gomodule import BuildError, GoModule, Unavailable

DISTRIBUTION = GoModule(
    sources=Path(__file__).parent,
    cache=gomodule.CACHE / "distribution",
    project="Distribution",
    path="github.com/distribution/distribution/v3",
    programs={"registry": (".",)},
)


def program() -> Path:
    """Built if it is not there. Raises Unavailable if the modules or Go cannot be had."""
    return DISTRIBUTION.built() / "registry"


def main() -> int:
    """The exit code: 69 if this machine cannot have it, 1 if it should have been built and was not."""
    try:
        program()
    except (Unavailable, BuildError) as error:
        sys.stderr.write(f"no Distribution 3: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
