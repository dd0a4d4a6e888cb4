"""A scoring service: an ONNX model behind a small HTTP interface and a page where a person can try it."""

from flask import Flask, Response

from scoring import errors, inputs, views
from scoring.loader import Loader
from scoring.metrics import Metrics
from scoring.page import Page
from scoring.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """The app. Its model is loaded in the background; `app.extensions["model"]` is the Loader."""
    settings = settings or Settings.from_env()
    app = Flask("scoring", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.json.sort_keys = False  # type: ignore[attr-defined]
    loader = Loader(settings.model_path, width=inputs.WIDTH, threads=settings.model_threads).start()
    metrics = Metrics(settings, loader)
    app.extensions["model"] = loader
    metrics.watch(app)
    errors.register(app)
    app.register_blueprint(views.blueprint(settings, loader, metrics, Page()))
    app.after_request(_guarded)
    return app


def _guarded(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
