"""What Azure Blob Storage answers when it does not do what was asked, in our words.

Codes: learn.microsoft.com/rest/api/storageservices/blob-service-error-codes and common-rest-api-error-codes.
"""

import re
from typing import TYPE_CHECKING

from linkspan.errors import (
    LinkspanError,
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from linkspan.stores.base import changed

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

_EXISTS = {"BlobAlreadyExists", "UnauthorizedBlobOverwrite"}
_DENIED = {
    "AuthenticationFailed": "Check the key or the SAS token (has it expired?) and this machine's clock",
    "AuthorizationFailure": "Check the account's firewall and network rules, and whether the SAS has expired",
    "AuthorizationPermissionMismatch": "Give the identity Storage Blob Data Contributor, or the SAS rights",
    "AuthorizationServiceMismatch": "Make a SAS for the Blob service",
    "AuthorizationResourceTypeMismatch": "Make a SAS for containers and objects",
    "AuthorizationProtocolMismatch": "Use https, or a SAS that allows http",
    "AuthorizationSourceIPMismatch": "Make a SAS without an IP range, or for this machine's address",
    "InsufficientAccountPermissions": "Give the identity the role Storage Blob Data Contributor",
    "AccountIsDisabled": "Enable the storage account",
    "NoAuthenticationInformation": "Give a connection string or a SAS token, or sign in",
    "InvalidAuthenticationInfo": "Check the token; its tenant or audience may be another one",
    "KeyBasedAuthenticationNotPermitted": "The account allows no keys: use the account URL and an identity",
    "PublicAccessNotPermitted": "Give a connection string or a SAS token, or sign in",
}


def means_exists(error: "AzureError") -> bool:
    """Whether a conditional create was refused because the blob is there.

    InvalidBlockList: a concurrent commit of the same blob throws away everyone's uncommitted blocks.
    """
    code, status = _code(error), getattr(error, "status_code", None)
    return code in _EXISTS or status == 412 or code == "InvalidBlockList"


def translate(error: "AzureError", container: str, key: str) -> LinkspanError:  # noqa: PLR0911 - a table
    """The error of linkspan.errors for one of the SDK, with the reason in one line and no secret."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    code, where = _code(error), f"Azure container {container}" + (f", {key}" if key else "")
    status = getattr(error, "status_code", None)
    detail = f"{where}: {code or _line(error)}"
    if code in {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}:
        return no_container(container)
    if code in {"InvalidResourceName", "OutOfRangeInput", "InvalidUri"}:
        return StoreError(
            f"{where}: {code}",
            expected="a container name of 3 to 63 lower-case letters, digits and '-'",
            fix="Correct the container's name in the block",
        )
    if code in _DENIED or status in {401, 403} or isinstance(error, ClientAuthenticationError):
        fix = _DENIED.get(code, "Check the connection string, the SAS token or the identity's roles")
        return StoreDenied(f"{detail}: access refused", fix=fix)
    if status == 404:
        return ObjectNotFound(f"{where} is not there")
    if means_exists(error) and not (status == 412 and code == "ConditionNotMet" and _is_read(error)):
        return ObjectExists(f"{where} is there already")
    if status == 412:
        return changed(key)
    if status in {408, 429, 500, 502, 503, 504} or not isinstance(error, HttpResponseError) or status is None:
        fix = "Check the account's name and the network, then try again" if not status else "Try again later"
        return StoreUnavailable(detail, fix=fix)
    return StoreError(f"{detail}: {_line(error)}" if code else detail, found=f"status {status}")


def no_container(container: str) -> ObjectNotFound:
    return ObjectNotFound(
        f"Azure container {container} is not there", fix="Create it, or correct its name in the block"
    )


def _is_read(error: "AzureError") -> bool:
    request = getattr(getattr(error, "response", None), "request", None)
    return getattr(request, "method", "") in {"GET", "HEAD"}


def _code(error: "AzureError") -> str:
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def _line(error: "AzureError") -> str:
    """The first line of the SDK's text; a SAS signature may be in a URL that it quotes."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"(sig|sv|se|skoid)=[^&\s'\")]+", r"\1=***", text)[:300]
