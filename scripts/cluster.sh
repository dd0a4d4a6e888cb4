#!/bin/sh
# Builds, starts or removes the Kubernetes cluster of the tests: scripts/cluster.sh build|up|down
#
# Its parts come from Debian's packages and, built the first time, from Go modules: `build` gets all that `up`
# needs. Exit code 69 says that this machine cannot have one now.
set -eu
cd "$(dirname "$0")/.."

packages() {
    [ "$(id -u)" = 0 ] || return 0 # `up` says that it needs root
    mkdir -p .linkspan
    exec 9>.linkspan/cluster.lock # parallel test processes install one after the other
    flock 9
    missing=
    command -v runc >/dev/null || missing="$missing runc" # Docker's own package has it too
    # shellcheck disable=SC2086 # a list of names
    scripts/packages.sh containernetworking-plugins iproute2 iptables $missing
    scripts/golang.sh
    exec 9>&-
}

case ${1-} in
build | up)
    scripts/setup.sh
    packages
    exec .venv/bin/python -m tests.cluster "$1"
    ;;
down)
    [ ! -x .venv/bin/python ] || exec .venv/bin/python -m tests.cluster down
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
