"""linkspan.toml: what an app says about itself. Addresses and secrets live in blocks, never here."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from linkspan.config.problems import Problems
from linkspan.errors import ConfigError
from linkspan.nouns import Name, Noun

CONFIG_FILE = "linkspan.toml"

AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/\S*$")]
# A layer is unpacked there: never the root, never "..".
FolderPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$")]


def _not_ours(name: str) -> str:
    # They say which commit and which model a release is, and that must stay true.
    if name.startswith("LINKSPAN_"):
        raise ValueError("names that begin with LINKSPAN_ are set by Linkspan")
    return name


EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_not_ours)]
# A day: timers and nginx cannot count to whatever a float can.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
# It travels in an image's label, which engines and registries hold in memory.
_MOST_BYTES = 1 << 20


# RFC 1123: a label is a namespace's name, labels with dots between are a host's.
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NamespaceName = Annotated[str, StringConstraints(pattern=rf"^({_LABEL})?$")]
HostName = Annotated[str, StringConstraints(pattern=rf"^({_LABEL}(\.{_LABEL})*)?$", max_length=253)]
# A Kubernetes quantity in cores: to the thousandth, and more than nothing.
CpuQuantity = Annotated[
    str,
    StringConstraints(
        pattern=r"^$|^[1-9][0-9]*m$|^[1-9][0-9]*(\.[0-9]{1,3})?$|^0\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9])$"
    ),
]


class TestSection(Noun):
    """How the app's own tests are run, inside the image that was just built."""

    __test__ = False  # for pytest: the name is no promise

    command: tuple[str, ...] = ()
    timeout_seconds: Seconds = 600


class ModelSection(Noun):
    """Which model the app takes, and the folder in the container where it expects the model's files.

    `mount` says how they come there: as `layers` of the release's image, or from an `image` of their own that
    is mounted read-only; `auto` mounts on clusters all of whose nodes can.
    """

    name: Name
    path: FolderPath = "/model"
    mount: Literal["auto", "image", "layers"] = "auto"


class ServeSection(Noun):
    """How the app serves: its port, the path that answers 200 once it is ready, its longest request."""

    port: int = Field(default=8080, ge=1, le=65535)
    ready_path: AbsolutePath = "/readyz"
    ready_seconds: Seconds = 120
    request_seconds: Seconds = 30


class SmokeSection(Noun):
    """A request that a healthy release answers.

    `expect_json` is a part that the answer's JSON must contain.
    """

    method: Annotated[str, StringConstraints(pattern=r"^[A-Z]+$")] = "GET"
    path: AbsolutePath = "/"
    # Any: a JSON document of the app's own shape.
    json_body: Any = Field(default=None, alias="json")
    expect_status: int = Field(default=200, ge=100, le=599)
    expect_json: Any = None
    timeout_seconds: Seconds = 30


class EnvironmentSection(Noun):
    """A place where the app runs. `cpu`, `host` and `namespace` are for a cluster; empty is its default."""

    replicas: int = Field(default=2, ge=1, le=64)
    env: dict[EnvName, str] = Field(default_factory=dict)
    memory: Annotated[str, StringConstraints(pattern=r"^$|^[0-9]+[kmg]$")] = ""
    cpu: CpuQuantity = ""
    host: HostName = ""
    namespace: NamespaceName = ""


class AppConfig(Noun):
    """The whole file."""

    name: Name
    model: ModelSection
    test: TestSection = TestSection()
    serve: ServeSection = ServeSection()
    smoke: SmokeSection = SmokeSection()
    environments: dict[Name, EnvironmentSection] = Field(
        default_factory=lambda: {"production": EnvironmentSection()}, min_length=1
    )

    def environment(self, name: str) -> EnvironmentSection:
        """The section of one environment. Raises ConfigError, naming those that there are."""
        if name not in self.environments:
            raise ConfigError(
                f"app {self.name} has no environment {name!r}",
                expected="one of " + ", ".join(sorted(self.environments)),
                fix=f"Add [environments.{name}] to {CONFIG_FILE}",
            )
        return self.environments[name]


def load_config(folder: Path, *, where: str = CONFIG_FILE) -> AppConfig:
    """`parse_config` of the linkspan.toml in an app's folder; a missing file is a ConfigError too."""
    file = folder / CONFIG_FILE
    # A link in somebody's commit would have us read, and quote, any file of this machine.
    if file.is_symlink():
        raise ConfigError(f"{where} is a link", expected="a file", fix="Put the file itself there")
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{where} cannot be read: {error.strerror}",
            expected=f"a file {CONFIG_FILE} in the app's folder",
            fix="Copy the one in app/ and put your app's and your model's name into it",
        ) from None
    return parse_config(data, where=where)


def parse_config(data: bytes, *, where: str) -> AppConfig:
    """The app's config from the bytes of its linkspan.toml; `where` is how errors call the file.

    Raises ConfigError that names file, line and key, and lists all errors at once if there are several; also
    for a file that is too big, or no UTF-8.
    """
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{where} is too big", expected=f"at most {_MOST_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a BOM
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}, line {line}: not UTF-8 text") from None
    try:
        document = tomllib.loads(text)
        problems = Problems(AppConfig, text, where)
    except ValueError as error:  # also what Python says of a number with thousands of digits
        raise ConfigError(f"{where} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where} has tables or lists in each other, hundreds deep") from None
    problems.refuse_what_json_has_not(document)
    try:
        # Strict, as JSON: "2" is no number, yet a list may be a tuple.
        return AppConfig.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise problems.explain(error) from None


def config_json(config: AppConfig) -> str:
    """The config as JSON with the file's own key names: the text of the image label.

    Without what came later and says nothing new: a Linkspan of before reads no keys that it does not know.
    """
    later = {"model": {"mount"}} if config.model.mount == "auto" else None
    return config.model_dump_json(by_alias=True, exclude=later)


def parse_config_json(text: str) -> AppConfig:
    """What `config_json` wrote. Raises ConfigError."""
    try:
        return AppConfig.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) + ": " if problem["loc"] else ""
        raise ConfigError(
            f"the config in the image's label cannot be read: {field}{problem['msg']}",
            fix="Build the image again with this version of Linkspan",
        ) from None
