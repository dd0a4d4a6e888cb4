"""The authorities that our HTTP clients trust."""

import functools
import os
import ssl

import httpx


def trusted() -> ssl.SSLContext:
    """Those of certifi and of the machine, because private registries have private ones.

    One for all clients of the process, as reading them takes 30 ms of a processor: nobody changes it.
    SSL_CERT_FILE and SSL_CERT_DIR are heeded (OpenSSL, SSL_CTX_load_verify_locations(3)).
    """
    return _read(os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", ""))


@functools.cache
def _read(_file: str, _folder: str) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context
