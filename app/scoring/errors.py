"""What the service answers when it cannot score: always JSON, always saying what to change."""

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

log = logging.getLogger(__name__)


class BadInput(Exception):
    """The client sent something that cannot be scored; the message says which part and why."""


class ModelNotReady(Exception):
    """There is no model to score with; the message says why."""


def register(app: Flask) -> None:
    """Answer every error as `{"error": …, "status": …}`."""
    limit = app.config["MAX_CONTENT_LENGTH"]
    app.register_error_handler(BadInput, lambda error: answer(400, str(error)))
    app.register_error_handler(ModelNotReady, lambda error: answer(503, str(error)))
    app.register_error_handler(
        RequestEntityTooLarge, lambda _: answer(413, f"the body is larger than {limit:,} bytes")
    )
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def answer(status: int, message: str) -> Response:
    """The one form that all errors have."""
    response = jsonify(error=message, status=status)
    response.status_code = status
    return response


def _http(error: HTTPException) -> Response:
    response = answer(error.code or 500, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() != "content-type":  # keeps Allow of a 405 and Location of a redirect
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return answer(500, "the service failed; its log says why")
