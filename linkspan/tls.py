"""The authorities that our HTTP clients trust."""

import functools
import os
import ssl
from pathlib import Path

import httpx

from linkspan.errors import ConfigError

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def trusted() -> ssl.SSLContext:
    """Those of certifi and of the machine, because private registries have private ones.

    One for all clients of the process, as reading them takes 30 ms of a processor: nobody changes it. It is
    read again when the files have changed. SSL_CERT_FILE and SSL_CERT_DIR are heeded (OpenSSL,
    SSL_CTX_load_verify_locations(3)). Raises ConfigError if what they name cannot be read.
    """
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    usual = ssl.get_default_verify_paths()
    places = {*given.values(), usual.openssl_cafile, usual.openssl_capath}
    try:
        return _read(tuple(sorted((place, *_stamp(place)) for place in places)))
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(
            "the authorities of TLS certificates cannot be read",
            found="; ".join([*(f"{name}={value}" for name, value in given.items()), str(error)]),
            fix="Let SSL_CERT_FILE name a file of PEM certificates, or unset it",
        ) from None


@functools.lru_cache(maxsize=2)
def _read(_places: tuple[tuple[str, int, int], ...]) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _stamp(place: str) -> tuple[int, int]:
    try:
        status = Path(place).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
