"""The app of the end-to-end tests: one file of the standard library, so that its image takes a second."""

from tests.services.engine import LEAVE

SERVICE = """\
import http.server, itertools, json, os, pathlib, signal, threading, time
WORD, BEHAVIOUR = {word!r}, {behaviour!r}
LOOKS = itertools.count(1)
model = pathlib.Path("/model")
{leave}

class Handler(Leaving):
    def do_GET(self):
        if self.path == "/readyz":
            # A smoke test asks at the loopback, a runtime at the replica's own address, and at least twice.
            if BEHAVIOUR == "dies when rolled out" and not self.headers["Host"].startswith("127.0.0.1:"):
                if next(LOOKS) == 2:
                    print("lost its licence", flush=True)
                    os._exit(7)
            there = (model / "model.onnx").exists()
            return self.answer(200 if there else 503, {{"model": there}})
        if self.path == "/score":
            return self.answer(200, {{"label": (model / "labels.txt").read_text().split()[7]}})
        self.answer(200, {{
            "word": WORD,
            "commit": os.environ["LINKSPAN_COMMIT"],
            "model": os.environ["LINKSPAN_MODEL_VERSION"],
        }})
    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", 8080), Handler).serve_forever()
"""

CONFIG = """\
name = "{app}"

[model]
name = "digits"
path = "{path}"

[test]
command = ["python3", "/app/test.py"]
timeout_seconds = 300

[serve]
ready_seconds = 200
request_seconds = 240

[smoke]
path = "/score"
expect_json = {{ label = "seven" }}

[environments.production]
replicas = 1
memory = "64m"
cpu = "50m"
"""

DOCKERFILE = 'FROM {base}\nCOPY . /app/\nUSER 1000\nCMD ["python3", "/app/service.py"]\n'
PASSES = "print('ok')\n"
FAILS = "raise SystemExit('AssertionError: 3 is not 7')\n"
LABELS = "zero one two three four five six seven eight nine"


def files(app: str, base: str, word: str = "one", behaviour: str = "good") -> dict[str, str]:
    """The app's folder."""
    return {
        "Dockerfile": DOCKERFILE.format(base=base),
        "linkspan.toml": CONFIG.format(app=app, path="/model"),
        "service.py": SERVICE.format(word=word, behaviour=behaviour, leave=LEAVE),
        "test.py": PASSES,
    }
