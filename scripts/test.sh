#!/bin/sh
# Runs the tests with everything they need: scripts/test.sh [ARGUMENTS OF PYTEST]
#
# Starts a Docker Engine and a Kubernetes cluster if none runs, and stops them again.
set -eu
cluster=
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/packages.sh git docker-registry apache2-utils mmdebstrap chromium postgresql curl openssl
command -v npm >/dev/null || scripts/packages.sh npm # for Azurite
scripts/engine.sh start
trap 'scripts/engine.sh stop; [ -z "$cluster" ] || scripts/cluster.sh down' EXIT
scripts/base-image.sh

# Here and not in a test, because its first build takes minutes. 69 says that this machine cannot have one: then
# the tests that need it are skipped and say so.
code=0
before=$(.venv/bin/python -c 'from tests.cluster.up import is_up; print(is_up())')
scripts/cluster.sh up || code=$?
[ "$code" = 0 ] || [ "$code" = 69 ] || exit "$code"
[ "$code$before" != 0False ] || cluster=ours

# Five is pytest's word for "nothing matched": fine for one of the two halves, not for both.
run() { .venv/bin/python -m pytest "$@" || { code=$?; [ "$code" = 5 ] || exit "$code"; empty=$((empty + 1)); }; }
empty=0
# The calm ones kill things and must then be quick.
run -n 2 -m "not calm" "$@"
run -n 2 --dist loadgroup -m calm "$@"
[ "$empty" -lt 2 ] || { echo "no test was run" >&2; exit 5; }
