"""`python -m tests.cluster build|up|down`."""

import fcntl
import sys

from tests.cluster.down import down
from tests.cluster.places import LOCK, ClusterError
from tests.cluster.program import programs
from tests.cluster.up import check_machine, up
from tests.gomodule import BuildError, Unavailable
from tests.say import Clock, say


def main() -> int:
    """The exit code: 69 if this machine cannot have a cluster, 1 if it should have started and did not."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command not in {"build", "up", "down"}:
        sys.stderr.write("usage: python -m tests.cluster build|up|down\n")
        return 2
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if command == "build":
                check_machine()
                programs()
            elif command == "up":
                up()
            else:
                clock = Clock()
                if down():
                    clock.say("Kubernetes is removed")
                else:
                    say("there is no cluster")
        except (Unavailable, BuildError, ClusterError) as error:
            sys.stderr.write(f"no cluster: {error}\n")
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
