"""Fixtures for real services; each lives in a file of its own and starts only what a test asks for."""

pytest_plugins = [
    "tests.services.engine",
    "tests.services.registry",
    "tests.services.azurite",
    "tests.services.moto",
    "tests.services.prefect_server",
    "tests.services.browser",
    "tests.services.sample_app",
]
