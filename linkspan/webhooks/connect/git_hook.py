"""The post-receive hook for a plain git server: a shell script that needs git, openssl and curl.

`openssl dgst -hmac` takes the secret as an argument, where every user of the machine reads it. So HMAC is
done in its two steps (RFC 2104): hash the inner key and the message, then the outer key and that hash. The
keys are in the file; the shell itself writes them into the pipe, and no process has them as an argument.

By hand the same signature is `openssl dgst -sha256 -hmac "$secret"`.
"""

import hashlib
import shlex

from linkspan.errors import ConfigError
from linkspan.webhooks.base import WebhookSettings
from linkspan.webhooks.providers.plain_git import CONTENT_TYPE, FIRST_LINE, SIGNATURE_HEADER
from linkspan.webhooks.providers.proofs import secret_of

_BLOCK = 64  # of SHA-256, in bytes

_HOOK = r"""#!/bin/sh
# Tells Linkspan what was pushed; made by `linkspan connect git`. Needs git, openssl and curl.
#
# On the git server put this into hooks/post-receive of the repository, owned by the user that runs git, and
# make it `chmod 700`: who can read it can speak for the repository.
# A push is never refused and never held up for long, whatever happens here.

url={url}
repository={repository}

# HMAC-SHA256 (RFC 2104) of standard input, in hex. The secret is in the two keys, and in no process list.
sign() {{
  {{ printf '%b' '{inner}'; cat; }} | openssl dgst -sha256 -binary |
    {{ printf '%b' '{outer}'; cat; }} | openssl dgst -sha256 -r | cut -c 1-64
}}

message=$(
  # Time and process make two pushes of the same commits two messages; curl's retries repeat one.
  printf '{first}\nrepository %s\nby %s\nat %s\nprocess %s\n\n' "$repository" \
    "${{GL_USER:-${{REMOTE_USER:-$(id -un)}}}}" "$(date +%s)" "$$"
  while read -r old new ref; do
    subject=$(git log -1 --no-show-signature --format=%s "$new" -- 2>/dev/null)
    printf '%s %s %s %s\n' "$old" "$new" "$ref" "$subject"
  done
)

printf '%s\n' "$message" |
  curl --silent --show-error --fail --output /dev/null \
    --connect-timeout 5 --max-time 10 --retry 2 --retry-connrefused \
    --header 'Content-Type: {content_type}; charset=utf-8' \
    --header "{header}: sha256=$(printf '%s\n' "$message" | sign)" \
    --data-binary @- "$url" ||
  echo 'Linkspan was not told of this push; it finds it by itself at its next look.' >&2
exit 0
"""


def post_receive(url: str, settings: WebhookSettings) -> str:
    """The hook's text, secret included: show it once, write it with mode 700 at most, never log it.

    `url` is the webhook's. Without a repository in the settings the hook tells the name of the repository's
    folder, without `.git`. Raises ConfigError for an address that is no web address.
    """
    if not url.startswith(("http://", "https://")) or not url.isprintable() or " " in url:
        raise ConfigError(f"{url!r} is no address for a hook", expected="https://…")
    secret = secret_of(settings).encode()
    key = (secret if len(secret) <= _BLOCK else hashlib.sha256(secret).digest()).ljust(_BLOCK, b"\0")
    here = '"$(basename "$(git rev-parse --absolute-git-dir)" .git)"'
    return _HOOK.format(
        url=shlex.quote(url),
        repository=shlex.quote(settings.repository) if settings.repository else here,
        inner=_octal(key, 0x36),
        outer=_octal(key, 0x5C),
        first=FIRST_LINE,
        content_type=CONTENT_TYPE,
        header=SIGNATURE_HEADER,
    )


def _octal(key: bytes, mask: int) -> str:
    """The key XOR a byte, as printf's %b writes bytes (POSIX printf): every one is `\\0` and three digits."""
    return "".join(f"\\0{byte ^ mask:03o}" for byte in key)
