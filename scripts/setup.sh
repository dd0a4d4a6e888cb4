#!/bin/sh
# Makes .venv exactly as requirements-dev.lock says; does nothing if it is so already.
#
# Needs Python 3.11 or newer. PYTHON=… chooses one. Safe to run again after it was killed.
set -eu
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

choose() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer. On Debian: apt-get install python3"
}

python=$(choose)
stamp=$( (cat requirements-dev.lock pyproject.toml; "$python" -V; pwd) | sha256sum | cut -c1-64)
[ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ] || exit 0

mkdir -p .linkspan
exec 9>.linkspan/setup.lock
flock 9
[ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ] || exit 0

echo "setup: making .venv from requirements-dev.lock (the first time takes a minute)"
command -v git >/dev/null || scripts/packages.sh git
# Debian's Python comes without what makes virtual environments.
"$python" -c 'import ensurepip' 2>/dev/null || scripts/packages.sh python3-venv
rm -f .venv/stamp
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv

# uv first, by the hash that the lock has for it; it installs the rest in seconds.
lock=$(mktemp)
trap 'rm -f "$lock"' EXIT
sed -n '/^uv==/,/[^\\]$/p' requirements-dev.lock >"$lock"
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r "$lock"
export VIRTUAL_ENV="$PWD/.venv"
# Compiled now, or every first import pays for it: Prefect's takes 3.4 s instead of 0.9 s.
.venv/bin/uv pip sync -q --compile-bytecode --require-hashes requirements-dev.lock
.venv/bin/uv pip install -q --no-deps --no-build-isolation -e .
echo "$stamp" >.venv/stamp
