#!/bin/sh
# Builds the registry of the tests that Debian does not have, CNCF Distribution 3, from Go modules.
#
# Exit code 69 says that this machine cannot have it now.
set -eu
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/golang.sh
exec .venv/bin/python -m tests.services.distribution.program
