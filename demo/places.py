"""Where the demo keeps its things: one folder in the checkout, so that `make down` can remove all of it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORLD = Path(os.environ.get("LINKSPAN_DEMO", ROOT / ".linkspan" / "demo"))

HOME = WORLD / "home"
ORIGIN = WORLD / "digits.git"
CLONE = WORLD / "digits"
MODELS = WORLD / "models"
TRAINED = WORLD / "trained"
REGISTRY = WORLD / "registry"
LOGS = WORLD / "logs"

APP = "digits"
ENVIRONMENT = "production"
