"""A linkspan.toml that was written to do harm, or by a machine gone wrong: an error, never a traceback."""

from pathlib import Path

import pytest

from linkspan.config import CONFIG_FILE, load_config, parse_config
from linkspan.errors import ConfigError
from tests.config.test_config import SMALL


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), where="linkspan.toml")
    return str(caught.value)


@pytest.mark.parametrize("depth", [60, 300, 5000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a=", "}")])
def test_tables_and_lists_in_each_other(depth: int, opening: str, closing: str) -> None:
    assert "in each other" in refused(f"{SMALL}[smoke]\njson = {opening * depth}1{closing * depth}\n")


@pytest.mark.parametrize("number", ["9" * 40, "9" * 5000, "0x" + "f" * 6000])
def test_numbers_without_end(number: str) -> None:
    assert "linkspan.toml" in refused(f"{SMALL}[smoke]\njson = {number}\n")


def test_times_are_not_longer_than_a_day() -> None:
    assert "line 5: `serve.request_seconds` is wrong (expected at most 86400" in refused(
        f"{SMALL}[serve]\nrequest_seconds = 1e300\n"
    )


def test_a_key_gives_no_orders_to_a_terminal() -> None:
    said = refused(f'"\\u001b[31mX\\u001b]0;title\\u0007\\nfatal: Y" = 1\n{SMALL}')
    assert "unknown key `X fatal: Y`" in said


def test_errors_stay_short() -> None:
    assert len(refused(f'"{"k" * 100_000}" = 1\n{SMALL}')) < 500
    many = refused(SMALL + "".join(f"key{number} = 1\n" for number in range(500)))
    assert "has 500 errors" in many
    assert many.endswith("and 480 more")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.toml").write_text('token = "t0ken"\n')
    app = tmp_path / "app"
    app.mkdir()
    (app / CONFIG_FILE).symlink_to(tmp_path / "secret.toml")
    with pytest.raises(ConfigError, match="is a link") as caught:
        load_config(app)
    assert "token" not in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(SMALL + "#" * (2 << 20))
    with pytest.raises(ConfigError, match="is too big"):
        load_config(tmp_path)
