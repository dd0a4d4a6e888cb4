"""How gunicorn runs the service: one process with threads, so that metrics need no adding up.

Inference runs outside of Python's lock; more of it comes from more replicas, which Linkspan starts.
"""

import logging
import os

from gunicorn.glogging import Logger

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

# onnxruntime (seen with 1.32) keeps telemetry in a database below the home folder unless it is told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

SHARED = "/dev/shm"  # noqa: S108 - a folder that gunicorn makes its own files in

bind = os.environ.get("BIND", "0.0.0.0:8080")
workers = 1
threads = 8
worker_class = "gthread"
graceful_timeout = 30  # seconds that requests in flight may take after SIGTERM
timeout = 60
keepalive = 75  # longer than a load balancer's, which else reuses a connection while we close it
# The heartbeat's file: in memory, because the root filesystem may be read-only.
worker_tmp_dir = SHARED if os.access(SHARED, os.W_OK) else None
control_socket_disable = True
accesslog = "-"
access_log_format = '%(t)s %(h)s "%(m)s %(U)s" %(s)s %(B)sB %(M)sms'  # no query, no body, no headers


class QuietLogger(Logger):
    """Leaves out what probes and Prometheus ask every second, unless it went wrong."""

    def access(self, resp, req, environ, request_time):
        if req.path in {"/healthz", "/readyz", "/metrics"} and resp.status_code < 400:
            return
        super().access(resp, req, environ, request_time)


logger_class = QuietLogger
