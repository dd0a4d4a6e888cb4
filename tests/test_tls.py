"""The authorities that our HTTP clients trust."""

import os
import shutil
from pathlib import Path

import certifi
import pytest

from linkspan.errors import ConfigError
from linkspan.tls import trusted


def test_there_is_one_context_until_the_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    shutil.copy(certifi.where(), bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    first = trusted()
    assert trusted() is first
    os.utime(bundle, (1, 1))
    second = trusted()
    assert second is not first
    monkeypatch.delenv("SSL_CERT_FILE")
    assert trusted() is not second


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    bundle = tmp_path / "ca.pem"
    if text is not None:
        bundle.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with pytest.raises(ConfigError, match=f"SSL_CERT_FILE={bundle}"):
        trusted()
