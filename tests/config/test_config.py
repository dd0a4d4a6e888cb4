"""linkspan.toml: what is right is read, what is wrong is named with its line."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from linkspan.config import config_json, load_config, parse_config, parse_config_json
from linkspan.config.lines import key_lines
from linkspan.errors import ConfigError

WHOLE = """\
# An app
name = "digits"

[model]
name = "digits-model"
path = "/model"

[test]
command = ["python", "-m", "pytest", "-q"]
timeout_seconds = 90

[serve]
port = 9000
ready_path = "/ready"
ready_seconds = 60.5
request_seconds = 10

[smoke]
method = "POST"
path = "/score"
json = { instances = [[0.0, 1.5], [2, 3]] }
expect_status = 200
expect_json = { predictions = [3] }

[environments.staging]
replicas = 1

[environments.production]
replicas = 3
memory = "512m"
cpu = "500m"
host = "digits.example.com"
namespace = "digits-prod"
env = { LOG_LEVEL = "info" }
"""

SMALL = 'name = "digits"\n[model]\nname = "digits"\n'


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), where="linkspan.toml")
    return str(caught.value)


def test_a_whole_file_is_read() -> None:
    config = parse_config(WHOLE.encode(), where="linkspan.toml")
    assert config.test.command == ("python", "-m", "pytest", "-q")
    assert config.smoke.json_body == {"instances": [[0.0, 1.5], [2, 3]]}
    assert config.environments["production"].env == {"LOG_LEVEL": "info"}
    assert config.serve.request_seconds == 10


def test_a_small_file_gets_the_defaults() -> None:
    config = parse_config(SMALL.encode(), where="x")
    assert config.model.path == "/model"
    assert config.environment("production").replicas == 2


@pytest.mark.parametrize("text", [WHOLE, SMALL])
def test_the_label_holds_the_whole_config(text: str) -> None:
    config = parse_config(text.encode(), where="x")
    label = config_json(config)
    assert parse_config_json(label) == config
    assert '"json":' in label
    assert "json_body" not in label


def test_a_label_that_is_none_of_ours() -> None:
    with pytest.raises(ConfigError, match="label cannot be read: model: Field required"):
        parse_config_json('{"name": "digits"}')
    with pytest.raises(ConfigError, match="label cannot be read: Invalid JSON"):
        parse_config_json("{")


def test_toml_errors_name_line_and_column() -> None:
    assert "line 3, column 8" in refused('name = "digits"\n[model]\nname = = 1\n')


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            SMALL + '[environments.production]\nenv = { LINKSPAN_COMMIT = "other" }\n',
            "not beginning with a digit or with LINKSPAN_",
        ),
        (
            SMALL + "[environments.production]\nreplicsa = 3\n",
            "line 5: unknown key `replicsa` in [environments.production]. Did you mean `replicas`?",
        ),
        (SMALL + "[smoke]\njsn = 1\n", "line 5: unknown key `jsn` in [smoke]. Did you mean `json`?"),
        (SMALL + "\n[smoke]\njson_body = 1\n", "line 6: unknown key `json_body` in [smoke]"),
        ("nmae = 'x'\n" + SMALL, "line 1: unknown key `nmae`. Did you mean `name`?"),
        (
            "replicas = 3\n" + SMALL,
            "line 1: unknown key `replicas`. `replicas` belongs into [environments.<name>]",
        ),
        (SMALL + "[serve]\nxyzzy = 1\n", "line 5: unknown key `xyzzy` in [serve]. Known are `port`"),
        (SMALL + "\n[sevre]\nport = 1\n", "line 5: unknown key `sevre`. Did you mean `serve`?"),
        (SMALL + "environments.production.replicsa = 3\n", "line 4: unknown key `environments`"),
        (
            "environments.production.replicsa = 3\n" + SMALL,
            "line 1: unknown key `replicsa` in [environments.production]. Did you mean `replicas`?",
        ),
        (
            "environments = { production = { replicsa = 3 } }\n" + SMALL,
            "line 1: unknown key `replicsa` in [environments.production]. Did you mean `replicas`?",
        ),
        (
            SMALL + "[serve]\nport = '80'\n",
            'line 5: `serve.port` is wrong (expected a whole number, found "80")',
        ),
        (
            SMALL + "[serve]\nport = 80.0\n",
            "line 5: `serve.port` is wrong (expected a whole number, found 80.0)",
        ),
        (
            SMALL + "[serve]\nport = true\n",
            "line 5: `serve.port` is wrong (expected a whole number, found true)",
        ),
        (SMALL + "[serve]\nport = 0\n", "line 5: `serve.port` is wrong (expected at least 1, found 0)"),
        (SMALL + "[serve]\nport = 70000\n", "(expected at most 65535, found 70000)"),
        (SMALL + "[serve]\nready_seconds = -1\n", "(expected more than 0, found -1)"),
        (
            SMALL + "[serve]\nready_seconds = inf\n",
            "line 5: `serve.ready_seconds` is wrong (expected a finite number",
        ),
        (
            SMALL + "[serve]\nready_path = 'readyz'\n",
            "(expected a path that starts with '/', found \"readyz\")",
        ),
        (
            SMALL + "[smoke]\njson = { at = 2026-11-22 }\n",
            "line 5: `smoke.json.at` is wrong (expected text in quotes",
        ),
        (SMALL + "[test]\ncommand = 'pytest'\n", "line 5: `test.command` is wrong (expected a list"),
        (SMALL + "[test]\ncommand = [\n 'python',\n # no\n 3,\n]\n", "line 8: `test.command[1]` is wrong"),
        (SMALL.replace("digits", "Digits"), "line 1: `name` is wrong (expected small letters"),
        (SMALL + "path = '/'\n", "line 4: `model.path` is wrong (expected a folder such as /model"),
        (SMALL + "path = '/a/../b'\n", "line 4: `model.path` is wrong"),
        (SMALL + "[environments.prod]\nmemory = '1 GB'\n", "a size such as 512m or 2g"),
        (
            SMALL + "[environments.prod]\ncpu = '0m'\n",
            "line 5: `environments.prod.cpu` is wrong (exp",
        ),
        (
            SMALL + "[environments.prod]\nhost = 'https://a.b'\n",
            "(expected a host name such as app.example",
        ),
        (SMALL + f"[environments.prod]\nhost = '{'a.' * 127}a'\n", "(expected a host name such as app.exa"),
        (
            SMALL + "[environments.prod]\nnamespace = 'Prod'\n",
            "(expected small letters a-z, digits and '-",
        ),
        (SMALL + "[environments.'Prod EU']\nreplicas = 1\n", "line 4: `environments.Prod EU` is wrong"),
        (SMALL + "[environments.prod.env]\n'A=B' = 'x'\n", "line 5: `environments.prod.env.A=B` is wrong"),
        (SMALL + "[environments]\n", "line 4: `environments` is wrong (expected at least one entry"),
        ("name = 'digits'\n", "line 1: `model` is missing"),
        ("name = 'digits'\n\n[model]\npath = '/m'\n", "line 3: `model.name` is missing. Put it into [model]"),
        (SMALL + "serve = 1\n", "line 4: unknown key `serve` in [model]"),
        ("serve = 1\n" + SMALL, "line 1: `serve` is wrong (expected a table, found 1)"),
    ],
)
def test_an_error_names_line_key_and_remedy(text: str, wanted: str) -> None:
    assert wanted in refused(text)


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        (
            "cpu",
            ["", "1m", "500m", "1", "2", "10", "1.5", "0.5", "0.50", "0.05", "0.001", "2.125"],
            ["0", "0m", "0.0", "0.000", "0.0001", "500M", "05", "1.", ".5", "1e3", "-1", "1 ", "1\n", "0.5m"],
        ),
        (
            "namespace",
            ["", "a", "team-a", "1", "a" * 63],
            ["a.b", "-a", "a-", "a_b", "A", "a" * 64, "a\n"],
        ),
        (
            "host",
            ["", "a", "a.b", "app.example.com", "1.2", "x-y.z", "a" * 63 + ".b", ("a" * 49 + ".") * 5 + "b"],
            ["*.a", "a.", ".a", "a..b", "a:80", "a/b", "A.b", "-a.b", "a-.b", "a_b.c", "a" * 64, "é.de"],
        ),
    ],
)  # fmt: skip
def test_what_a_cluster_takes(key: str, right: list[str], wrong: list[str]) -> None:
    for value in right:
        text = f"{SMALL}[environments.prod]\n{key} = {json.dumps(value)}\n"
        assert getattr(parse_config(text.encode(), where="x").environment("prod"), key) == value
    for value in wrong:
        assert f"environments.prod.{key}` is wrong" in refused(
            f"{SMALL}[environments.prod]\n{key} = {json.dumps(value)}\n"
        )


def test_all_errors_are_listed_in_the_order_of_the_file() -> None:
    message = refused(SMALL + "[serve]\nport = 0\nprot = 1\n[smoke]\nmethod = 3\n")
    assert "linkspan.toml has 3 errors:" in message
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == [
        "linkspan.toml, line 5",
        "linkspan.toml, line 6",
        "linkspan.toml, line 8",
    ]


def test_an_environment_that_is_not_there() -> None:
    config = parse_config(WHOLE.encode(), where="x")
    with pytest.raises(ConfigError, match="expected one of production, staging"):
        config.environment("prod")


def test_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"linkspan\.toml of 3fa9c1d cannot be read"):
        load_config(tmp_path, where="linkspan.toml of 3fa9c1d")
    path = tmp_path / "linkspan.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_config(tmp_path).name == "digits"
    path.write_bytes(SMALL.encode() + b"# \xff\n")
    with pytest.raises(ConfigError, match="line 4: not UTF-8"):
        load_config(tmp_path)


HARD = (
    r'''
a."b.c" . 'd e' = """
x = 1  \""" [no]
"""
list = [ 1, # one, [two]
  { x = "]", "y z" = [ '}' ] },
  """a""""",
]
z.k = '#'  # comment
[ t . "u" ]
date = 2026-11-22T10:00:00Z
s = '''
    + """'''
n = 1
'''
"""
    + r"""
[[arr]]
x = 1
[[arr]]
x = 2
[arr.sub]
y = { p.q = 1 }
[[arr.deep]]
e = 1
[[arr.deep]]
e = 2
"""
)


def test_lines_of_every_shape_of_key() -> None:
    assert tomllib.loads(HARD)
    lines = key_lines(HARD)
    assert lines["a", "b.c", "d e"] == 2
    assert lines["list",] == 5
    assert lines["list", 0] == 5
    assert lines["list", 1, "y z", 0] == 6
    assert lines["list", 2] == 7
    assert lines["z", "k"] == 9
    assert lines["t", "u"] == 10
    assert lines["t", "u", "date"] == 11
    assert lines["t", "u", "s"] == 12
    assert ("t", "u", "n") not in lines
    assert lines["arr", 0, "x"] == 17
    assert lines["arr", 1, "x"] == 19
    assert lines["arr", 1, "sub", "y", "p", "q"] == 21
    assert lines["arr", 1, "deep", 1, "e"] == 25


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [paths(item, (*path, key)) for key, item in items]
    return {path}.union(*below) - {()}


@pytest.mark.parametrize("text", [WHOLE, SMALL, HARD, ""])
def test_exactly_the_keys_that_tomllib_sees_have_a_line(text: str) -> None:
    assert set(key_lines(text)) == paths(tomllib.loads(text))
