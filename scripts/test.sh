#!/bin/sh
# Runs the tests with everything they need: scripts/test.sh [ARGUMENTS OF PYTEST]
#
# Starts a Docker Engine if none runs, and stops it again.
set -eu
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/packages.sh git docker-registry apache2-utils mmdebstrap chromium
command -v npm >/dev/null || scripts/packages.sh npm # for Azurite
scripts/engine.sh start
trap 'scripts/engine.sh stop' EXIT
scripts/base-image.sh
.venv/bin/python -m pytest "$@"
