"""Tags that never move. What changes gets the next number of its series: `name`, `name__2`, `name__3` …

A registry may forbid to move a tag (ECR: "immutable tags"), and where it does not, a tag that moves says
nothing about what was. The last of a series counts. No version of a model has `__` in it (PEP 440), so that a
series is never taken for another version.
"""

from collections.abc import Collection

from linkspan.errors import RegistryError
from linkspan.nouns import Digest
from linkspan.registry.client import Registry


def nth(name: str, number: int) -> str:
    """The tag of a series' member, from 1 on."""
    return name if number == 1 else f"{name}__{number}"


def once(registry: Registry, digest: Digest, tag: str) -> Digest:
    """Give a manifest that is there a tag, unless the tag is taken; what it names then.

    Errors are the registry's.
    """
    return registry.exists(tag) or _put(registry, digest, tag)


def _put(registry: Registry, digest: Digest, tag: str) -> Digest:
    """Give it a tag that was not there a moment ago; what that names then."""
    try:
        registry.tag(digest, tag)
    except RegistryError:
        # Somebody else was quicker, or we were and did not hear of it; then it is there.
        if known := registry.exists(tag):
            return known
        raise
    return digest


def last(registry: Registry, name: str) -> tuple[int, Digest | None]:
    """The last of a series: its number and what it names; 0 and None if there is none.

    Asks for the logarithm of how many there are, and twice where there is one. Errors are the registry's.
    """
    found: dict[int, Digest | None] = {0: None}

    def there(number: int) -> bool:
        if number not in found:
            found[number] = registry.exists(nth(name, number))
        return found[number] is not None

    step = 1
    while there(step):
        step *= 2
    low, high = step // 2, step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low, found[low]


def last_of(tags: Collection[str], name: str) -> str | None:
    """The tag of a series' last member among `tags`; None if there is none."""
    number = 0
    while nth(name, number + 1) in tags:
        number += 1
    return nth(name, number) if number else None


def add(registry: Registry, name: str, digest: Digest) -> str:
    """Make a manifest that is there the last of a series, unless it is; returns its tag.

    Errors are the registry's.
    """
    while True:
        number, newest = last(registry, name)
        if newest == digest:
            return nth(name, number)
        tag = nth(name, number + 1)
        if _put(registry, digest, tag) == digest:
            return tag
