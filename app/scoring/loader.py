"""Loads the model beside the web server, so that /healthz answers at once and /readyz says why not yet."""

import logging
import threading
from pathlib import Path

from scoring.errors import ModelNotReady
from scoring.model import Model

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.5
"""Seconds between two looks for a model that is not there yet."""


class Loader:
    """Holds the model once it can score. A broken model stays broken: its reason stays readable."""

    def __init__(self, folder: Path, *, width: int, threads: int = 1) -> None:
        self._folder = folder
        self._width = width
        self._threads = threads
        self._model: Model | None = None
        self._reason = "the model is being loaded"
        self._tried = threading.Event()
        self._stop = threading.Event()

    def start(self) -> "Loader":
        threading.Thread(target=self._run, name="model-loader", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop looking for a model that never came."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether loading came to an end, good or bad, within that time."""
        return self._tried.wait(seconds)

    @property
    def ready(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> Model:
        """Raises ModelNotReady with the reason."""
        if self._model is None:
            raise ModelNotReady(self._reason)
        return self._model

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._model = Model(self._folder, width=self._width, threads=self._threads)
                log.info("%s is loaded and scored a blank picture", self._model.file)
                break
            except FileNotFoundError as error:
                self._reason = f"{error}; looking again"
                self._stop.wait(LOOK_AGAIN)
            except Exception as error:
                self._reason = f"the model cannot be used: {error}"
                log.exception("the model cannot be used")
                break
        self._tried.set()
