"""Every error Linkspan raises on purpose, in one tree.

LinkspanError
├── ConfigError                 linkspan.toml, a block's fields, a command's arguments
├── SourceError                 the git repository
│   ├── SourceUnavailable         (retriable)
│   ├── SourceDenied
│   └── CommitNotFound
├── BuildError                  the code image
│   ├── BuildUnavailable          (retriable) the Docker Engine cannot be reached
│   ├── BuildFailed
│   └── AppTestsFailed
├── StoreError                  the place where models are published
│   ├── StoreUnavailable          (retriable)
│   ├── StoreDenied
│   ├── ObjectNotFound
│   ├── ObjectExists
│   └── ObjectChanged             (retriable) overwritten while it was read
├── ModelError                  a published model
│   ├── ModelNotFound
│   ├── VersionExists
│   ├── ModelCorrupt              bytes that are not those of its manifest
│   └── ModelRefused              cannot be opened, or cannot score
├── RegistryError               the container registry
│   ├── RegistryUnavailable       (retriable)
│   ├── RegistryDenied
│   ├── RegistryNotFound
│   ├── RegistryFull
│   └── DigestMismatch
├── ReleaseError                linking and rolling out
│   ├── ReleaseNotFound
│   ├── SmokeFailed
│   ├── RuntimeUnavailable        (retriable)
│   ├── RuntimeDenied
│   ├── RolloutConflict           (retriable) somebody else released meanwhile
│   └── RolloutFailed
├── ServerError                 the Prefect server
│   ├── ServerUnavailable         (retriable)
│   ├── ServerDenied
│   ├── ServerUnknown
│   └── RunFailed
├── WebhookRefused              a request to the receiver that is not believed, or not understood
│   └── WebhookUnchecked          (retriable) its sender could not be checked now
├── InboxUnavailable            (retriable) the receiver's inbox cannot be written or read
├── QueueUnavailable            (retriable) a queue of events cannot be read
└── HeldBack                    the newest pair is known to be bad; nothing was changed

An error says which thing, what was expected, what was found and what to do. `retriable` says whether the
same call may succeed later with nothing mended; flows retry on nothing else. Never put a secret into one.
"""

from typing import ClassVar


class LinkspanError(Exception):
    """Base of the tree.

    `what` names the thing and what went wrong with it; `expected` and `found` are values; `fix` is a
    sentence that says what to do. All but `what` may be empty.
    """

    retriable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, expected: object = "", found: object = "", fix: str = "") -> None:
        self.what = what
        self.expected = str(expected)
        self.found = str(found)
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.expected or self.found:
            parts = [("expected", self.expected), ("found", self.found)]
            text += " (" + ", ".join(f"{name} {value}" for name, value in parts if value) + ")"
        if self.fix:
            text += f". {self.fix}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect and multiprocessing pickle errors; keyword-only fields need help to survive that.
        return _rebuild, (type(self), self.what, self.expected, self.found, self.fix)


def _rebuild(kind: type[LinkspanError], what: str, expected: str, found: str, fix: str) -> LinkspanError:
    return kind(what, expected=expected, found=found, fix=fix)


class ConfigError(LinkspanError):
    exit_code = 2


class SourceError(LinkspanError):
    exit_code = 3


class SourceUnavailable(SourceError):
    retriable = True


class SourceDenied(SourceError): ...


class CommitNotFound(SourceError): ...


class BuildError(LinkspanError):
    exit_code = 4


class BuildUnavailable(BuildError):
    retriable = True


class BuildFailed(BuildError): ...


class AppTestsFailed(BuildError): ...


class StoreError(LinkspanError):
    exit_code = 5


class StoreUnavailable(StoreError):
    retriable = True


class StoreDenied(StoreError): ...


class ObjectNotFound(StoreError): ...


class ObjectExists(StoreError): ...


class ObjectChanged(StoreError):
    retriable = True


class ModelError(LinkspanError):
    exit_code = 6


class ModelNotFound(ModelError): ...


class VersionExists(ModelError): ...


class ModelCorrupt(ModelError): ...


class ModelRefused(ModelError): ...


class RegistryError(LinkspanError):
    exit_code = 7


class RegistryUnavailable(RegistryError):
    retriable = True


class RegistryDenied(RegistryError): ...


class RegistryNotFound(RegistryError): ...


class RegistryFull(RegistryError): ...


class DigestMismatch(RegistryError): ...


class ReleaseError(LinkspanError):
    exit_code = 8


class ReleaseNotFound(ReleaseError): ...


class SmokeFailed(ReleaseError): ...


class RuntimeUnavailable(ReleaseError):
    retriable = True


class RuntimeDenied(ReleaseError): ...


class RolloutConflict(ReleaseError):
    retriable = True


class RolloutFailed(ReleaseError): ...


class ServerError(LinkspanError):
    exit_code = 9


class ServerUnavailable(ServerError):
    retriable = True


class ServerDenied(ServerError): ...


class ServerUnknown(ServerError):
    """What answers is no Prefect server: somebody else's page, or half of an answer."""


class RunFailed(ServerError): ...


class WebhookRefused(LinkspanError):
    """Its words go to the log of the receiver, never to the caller."""

    exit_code = 11


class WebhookUnchecked(WebhookRefused):
    retriable = True


class InboxUnavailable(LinkspanError):
    retriable = True
    exit_code = 11


class QueueUnavailable(LinkspanError):
    retriable = True
    exit_code = 11


class HeldBack(LinkspanError):
    exit_code = 10
