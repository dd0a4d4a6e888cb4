"""linkspan.toml: what an app says about itself. Addresses and secrets live in blocks, never here."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from linkspan.nouns import Name, Noun

AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/\S*$")]


class TestSection(Noun):
    """How the app's own tests are run, inside the image that was just built."""

    command: tuple[str, ...] = ()
    timeout_seconds: float = Field(default=600, gt=0)


class ModelSection(Noun):
    """Which model the app takes, and the folder in the container where it expects the model's files."""

    name: Name
    path: AbsolutePath = "/model"


class ServeSection(Noun):
    """How the app serves: its port, the path that answers 200 once it is ready, its longest request."""

    port: int = Field(default=8080, ge=1, le=65535)
    ready_path: AbsolutePath = "/readyz"
    ready_seconds: float = Field(default=120, gt=0)
    request_seconds: float = Field(default=30, gt=0)


class SmokeSection(Noun):
    """A request that a healthy release answers.

    `expect_json` is a part that the answer's JSON must contain.
    """

    method: str = "GET"
    path: AbsolutePath = "/"
    # Any: a JSON document of the app's own shape.
    json_body: Any = Field(default=None, alias="json")
    expect_status: int = Field(default=200, ge=100, le=599)
    expect_json: Any = None
    timeout_seconds: float = Field(default=30, gt=0)


class EnvironmentSection(Noun):
    """A place where the app runs."""

    replicas: int = Field(default=2, ge=1, le=64)
    env: dict[str, str] = Field(default_factory=dict)
    memory: Annotated[str, StringConstraints(pattern=r"^$|^[0-9]+[kmg]$")] = ""


class AppConfig(Noun):
    """The whole file."""

    name: Name
    model: ModelSection
    test: TestSection = TestSection()
    serve: ServeSection = ServeSection()
    smoke: SmokeSection = SmokeSection()
    environments: dict[Name, EnvironmentSection] = Field(
        default_factory=lambda: {"production": EnvironmentSection()}
    )
