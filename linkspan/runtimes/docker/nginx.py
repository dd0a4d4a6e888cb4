"""What nginx is told: the two configurations of a service's proxy, as functions of what is live.

Two nginx run in the proxy. The *edge* holds the users' connections and is never reloaded; the *switch* behind
it, on a Unix socket, knows the replicas and is reloaded at every rollout. A reload makes nginx close its idle
keep-alive connections without a word, so a single nginx loses the request that a client sends at that very
moment; the edge opens a new connection to the switch for every request, and none is ever idle.

The switch's configuration starts with the live revision as JSON, in comments: one file, replaced by one
rename, is both what nginx does and what Linkspan knows.
"""

import json

from pydantic import Field

from linkspan.nouns import Noun, Revision, sha256
from linkspan.runtimes.docker.files import KEEP

PROXY_PORT = 8080
STATE = "/linkspan/state"
RUN = "/run/linkspan"
_HEADER = "# linkspan: "
_END = "# linkspan end"
# A WebSocket lives as long as its two ends want: this is the longest that nginx takes on 32-bit machines too.
# TCP's own keep-alive finds ends that have vanished, so that none is held open for nobody.
_TUNNEL = "24d"
# nginx reads its file in pieces of 4 KiB and takes a longer comment line for "too long parameter".
_COMMENT = 2000


class Live(Noun):
    """What gets the traffic: the revision, the addresses of its replicas, and how they are spoken to.

    `spec` is the digest of all that makes a replica what it is: another spec is another rollout.
    """

    revision: Revision
    spec: str
    addresses: tuple[str, ...]
    port: int
    ready_path: str
    request_seconds: float = Field(gt=0)

    @property
    def marker(self) -> str:
        """What the switch answers when it is asked which of these it serves.

        Whether the revision is pinned is nothing that nginx knows of.
        """
        return sha256(self.model_dump_json(exclude={"revision": {"pinned"}}).encode())


_OPENING = """
worker_processes 2;
pid {run}/{name}.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    large_client_header_buffers 8 32k;"""

_SWITCH = """
worker_shutdown_timeout {seconds}s;{opening}
{upstream}
    map $http_upgrade $upstream_connection {{ default upgrade; '' ''; }}
    map "$request_method $http_upgrade $http_sec_websocket_key" $websocket {{
        default '';
        '~*^GET websocket .' 1;
    }}
    server {{
        listen unix:{run}/switch.sock backlog=4096;
{location}
    }}
    server {{
        listen unix:{run}/control.sock;
        location / {{ return 200 "{marker}"; }}
    }}
}}
"""

# An application server closes idle connections after 2 s (gunicorn) or 5 s (uvicorn, node): let go of them
# before it does, since a POST that meets a closing connection must not be sent twice.
_UPSTREAM = """    upstream app {{
        zone app 64k;
{servers}
        keepalive 32;
        keepalive_timeout 1s;
    }}"""
# A replica that failed is left alone for a second. All of them have when some requests were slow in the same
# second; then each serves as its own stand-in, or everybody would hear 502 until that second is over. An only
# replica is never left alone, and has no stand-in that would be sent the same request again.
_ALONE = "        server {server} max_fails=0;"
_SERVER = """        server {server} max_fails=1 fail_timeout=1s;
        server {server} max_fails=0 backup;"""

# proxy_next_upstream's default: what failed before a byte was sent goes to the next replica; a POST that was
# sent never does. nginx takes no variable as a timeout, so the handshake of a WebSocket (RFC 6455, 4.1) has
# its own location; other upgrades (h2c, which some clients offer with every request) stay requests.
_APP = """        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection $upstream_connection;
        proxy_set_header Upgrade $http_upgrade;
        proxy_next_upstream error timeout;
        proxy_next_upstream_tries {tries};
        proxy_connect_timeout 2s;
        proxy_max_temp_file_size 0;
        proxy_socket_keepalive on;
        location / {{
            error_page 418 = @websocket;
            if ($websocket) {{ return 418; }}
            proxy_pass http://app;
            proxy_read_timeout {seconds}s;
            proxy_send_timeout {seconds}s;
        }}
        location @websocket {{
            proxy_pass http://app;
            proxy_read_timeout {tunnel};
            proxy_send_timeout {tunnel};
        }}"""

_NOTHING = """        location / { default_type text/plain; return 503 "Nothing is released yet.\\n"; }"""


def _opening(name: str) -> str:
    return _OPENING.format(run=RUN, name=name)


def switch_conf(live: Live | None) -> str:
    """The configuration of the switch. None answers 503 to everything."""
    if live is None:
        body = _SWITCH.format(
            seconds=30, opening=_opening("switch"), run=RUN, upstream="", location=_NOTHING, marker="none"
        )
        return f"{_HEADER}null{body}{_END}\n"
    text = json.dumps(live.model_dump(mode="json"), ensure_ascii=True, sort_keys=True)
    header = "\n".join(_HEADER + text[at : at + _COMMENT] for at in range(0, len(text), _COMMENT))
    replicas = len(live.addresses)
    line = _SERVER if replicas > 1 else _ALONE
    servers = "\n".join(line.format(server=f"{address}:{live.port}") for address in live.addresses)
    seconds = max(1, round(live.request_seconds))
    body = _SWITCH.format(
        seconds=seconds,
        opening=_opening("switch"),
        run=RUN,
        upstream=_UPSTREAM.format(servers=servers),
        location=_APP.format(seconds=seconds, tunnel=_TUNNEL, tries=replicas),
        marker=live.marker,
    )
    return f"{header}{body}{_END}\n"


def whole(conf: str) -> bool:
    """Whether the file was written to its end."""
    return conf.startswith(_HEADER) and conf.rstrip().endswith(_END)


def read_live(conf: str) -> Live | None:
    """What `switch_conf` was called with."""
    lines = (line.removeprefix(_HEADER) for line in conf.splitlines() if line.startswith(_HEADER))
    text = "".join(lines) or "null"
    return None if text == "null" else Live.model_validate_json(text)


EDGE = f"""{_opening("edge")}
    keepalive_timeout 75s;
    keepalive_requests 100000;
    map $http_upgrade $upstream_connection {{ default upgrade; '' close; }}
    map $http_x_forwarded_proto $forwarded_proto {{ default $http_x_forwarded_proto; '' $scheme; }}
    map $http_x_forwarded_host $forwarded_host {{ default $http_x_forwarded_host; '' $http_host; }}
    upstream switch {{ server unix:{RUN}/switch.sock max_fails=0; }}
    server {{
        listen {PROXY_PORT} backlog=4096 so_keepalive=on;
        location / {{
            proxy_pass http://switch;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $upstream_connection;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $forwarded_proto;
            proxy_set_header X-Forwarded-Host $forwarded_host;
            # The switch buffers and gives up; here nothing is held back and nothing is cut short.
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout {_TUNNEL};
            proxy_send_timeout {_TUNNEL};
        }}
    }}
}}
"""

START = (
    f"rm -f {RUN}/*; nginx -e stderr -c {STATE}/live.conf || exit 1; "
    f"exec nginx -e stderr -c {STATE}/edge.conf -g 'daemon off;'"
)
"""The proxy's command. A new container has a new /run, but a restarted one has the old sockets in the way."""

# Prints `<pid> serving` or `<pid> leaving` for every worker of the switch; the edge's never leave.
_WORKERS = f"""
workers() {{
    master=$(cat {RUN}/switch.pid)
    for of in $(grep -ls '^nginx: worker process' /proc/[0-9]*/cmdline); do
        of=${{of%/cmdline}}
        if grep -qs 'shutting down' "$of/cmdline"; then echo "${{of#/proc/}} leaving"
        elif grep -qs "^PPid:[[:space:]]*$master$" "$of/status"; then echo "${{of#/proc/}} serving"; fi
    done
}}
"""

DRAINED = (
    _WORKERS
    + """
for _ in $(seq "$1"); do
    workers | grep -q leaving || exit 0
    sleep 0.1
done
exit 3"""
)
"""Succeeds as soon as no worker leaves any more, within $1 tenths of a second."""

# Workers outlive a master that was killed and still answer, but nobody can tell them anything any more.
_LIVES = f"""
lives() {{ grep -qs '^nginx: master' "/proc/$(cat {RUN}/switch.pid 2>/dev/null)/cmdline"; }}
"""

CONTROL = _LIVES + f"lives && exec curl -s -m 20 --unix-socket {RUN}/control.sock http://switch/"
"""Prints the marker of the configuration that the switch works by; fails if its master is gone."""

# A container that is just starting gets its time. Workers of the dead master are known by its session: it was
# a daemon. The edge holds its breath for the few ms in which no socket is there, so that no request fails.
REVIVE = (
    _LIVES
    + f"""
for n in $(seq 300); do
    lives && exit 0
    [ "$n" -lt 20 ] || ! grep -qs '^nginx: master' /proc/1/cmdline || break
    sleep 0.05
done
set -e
nginx -e stderr -q -t -c {STATE}/live.conf
dead=$(cat {RUN}/switch.pid 2>/dev/null || true)
edge= orphans=
for of in $(grep -ls '^nginx: worker process' /proc/[0-9]*/cmdline); do
    read -r pid _ _ _ _ session _ <"${{of%/cmdline}}/stat" || continue
    if [ "$session" = "$dead" ]; then orphans="$orphans $pid"; else edge="$edge $pid"; fi
done
log=/dev/null
[ ! -w /proc/1/fd/2 ] || log=/proc/1/fd/2
trap 'kill -CONT $edge' EXIT
kill -STOP $edge
rm -f {RUN}/switch.sock {RUN}/control.sock
nginx -e stderr -c {STATE}/live.conf >/dev/null 2>$log
for pid in $orphans; do kill -QUIT $pid || true; done
echo revived
"""
)
"""Starts the switch again if its master is gone, and says so."""

# What was put there by who was killed, and the oldest revisions.
_FORGET = f"""
for folder in "${{1%/*}}"/*; do [ "$folder" = "$1" ] || rm -rf "$folder"; done
(cd {STATE}/revisions; ls | sort -r | sed '1,{KEEP}d' | while read -r file; do rm -f "$file"; done)
"""

_CHECK = 'set -e; nginx -e stderr -q -t -c "$1/live.conf"'

_REMEMBER = f"""
for file in "$1"/[0-9]*.json; do [ ! -e "$file" ] || mv -f "$file" {STATE}/revisions/; done
"""

_KEEP = (
    _REMEMBER
    + f"""
mv -f "$1/live.conf" {STATE}/live.conf
"""
)

REMEMBER = _FORGET + _REMEMBER
"""Keeps the revisions whose files are in the folder $1."""

NOTE = _FORGET + _CHECK + _KEEP
"""Keeps a configuration that nginx works by already, without a reload.

$1 is the folder that holds live.conf and, if it is a new revision, its file; so it is for SWITCH.
"""

# `nginx -s reload` returns before anything happened: it is done when none of the workers that were there
# still accepts connections.
SWITCH = (
    _WORKERS
    + _FORGET
    + _CHECK
    + """
before=$(workers | sed -n 's/ serving//p')"""
    + _KEEP
    + f"""
nginx -e stderr -c {STATE}/live.conf -s reload
for _ in $(seq 1200); do
    now=" $(workers | sed -n 's/ serving//p' | tr '\\n' ' ')"
    left=
    for pid in $before; do case $now in *" $pid "*) left=1 ;; esac; done
    [ -n "$left" ] || exit 0
    sleep 0.05
done
echo "nginx did not take its new configuration within 60 s" >&2
exit 3
"""
)
