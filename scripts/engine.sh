#!/bin/sh
# Makes sure that a Docker Engine answers, and stops one that this script started.
#
#   scripts/engine.sh start      use the one that runs, else install and start Debian's docker.io (root only)
#   scripts/engine.sh stop       stop it, if it was started by `start` and not by anybody else
set -eu

state=${XDG_STATE_HOME:-$HOME/.local/state}/linkspan
pidfile=$state/dockerd.pid
seconds=60

fail() { printf 'Docker Engine: %s\n' "$*" >&2; exit 1; }
version() { docker version -f '{{.Server.Version}}' 2>/dev/null; }

# The process is ours if it still is the dockerd whose start time was written down with its id.
started() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null; }

ours() {
    [ -r "$pidfile" ] || return 1
    read -r pid start <"$pidfile" || return 1
    [ "$(started "$pid")" = "$start" ]
}

start() {
    if version >/dev/null; then
        printf '%s, running\n' "$(version)"
        return
    fi
    [ -z "${DOCKER_HOST-}" ] || fail "DOCKER_HOST is $DOCKER_HOST and does not answer"
    [ "$(id -u)" = 0 ] || fail "none answers, and starting one needs root. Install Docker (https://docs.docker.com/engine/install) or run as root"
    "$(dirname "$0")/packages.sh" docker.io iptables >&2
    mkdir -p "$state"
    setsid dockerd >"$state/dockerd.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid $(started "$pid")" >"$pidfile"
    until version >/dev/null; do
        kill -0 "$pid" 2>/dev/null || fail "dockerd did not start; its log is $state/dockerd.log: $(tail -n 3 "$state/dockerd.log")"
        seconds=$((seconds - 1))
        [ "$seconds" -gt 0 ] || fail "dockerd does not answer; its log is $state/dockerd.log"
        sleep 1
    done
    printf '%s, started (log: %s)\n' "$(version)" "$state/dockerd.log"
}

stop() {
    ours || return 0
    read -r pid _ <"$pidfile"
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
    rm -f "$pidfile"
    echo "stopped"
}

case ${1-} in
start) start ;;
stop) stop ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
