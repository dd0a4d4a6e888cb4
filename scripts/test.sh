#!/bin/sh
# Runs the tests with everything they need: scripts/test.sh [ARGUMENTS OF PYTEST]
#
# Six at a time: two keep the cores busy, the others mostly wait (tests/lanes.py). What the chosen tests need
# is installed and started, and what was started for them is stopped again. How long each took is in
# .linkspan/reports/tests.xml afterwards.
set -eu
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/packages.sh git
code=0
.venv/bin/python -m pytest -n 6 --durations=50 --junitxml=.linkspan/reports/tests.xml "$@" || code=$?
[ "$code" != 5 ] || echo "no test was run" >&2
exit "$code"
