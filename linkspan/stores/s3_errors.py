"""What S3 and its client answer when they do not do what was asked, in our words.

Codes: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from typing import Any

from linkspan.errors import (
    LinkspanError,
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from linkspan.stores.base import changed

CONFLICT = "409 ConditionalRequestConflict"
NO_BUCKET = "no such bucket"

_REGION = "Set the region of the bucket in the block"
_DENIED = {
    "InvalidAccessKeyId": "Check the access key ID",
    "SignatureDoesNotMatch": "Check the secret access key",
    "ExpiredToken": "The session has expired: get new temporary credentials",
    "ExpiredTokenException": "The session has expired: get new temporary credentials",
    "TokenRefreshRequired": "The session has expired: get new temporary credentials",
    "InvalidToken": "Check the session token; it belongs to another access key",
    "RequestTimeTooSkewed": "Set this machine's clock",
    "AccessDenied": "Allow s3:ListBucket, s3:GetObject, s3:GetObjectVersion and s3:PutObject on the bucket",
    "AllAccessDisabled": "The account's access to S3 is disabled",
    "AccountProblem": "See to the AWS account",
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "IllegalLocationConstraintException": _REGION,
}
_BUSY = {
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "RequestLimitExceeded",
}


def sdk_errors() -> tuple[type[Exception], ...]:
    """Everything that boto3 and the library below it raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


def translate(error: Exception, bucket: str, key: str) -> LinkspanError:  # noqa: PLR0911 - a table
    """The error of linkspan.errors for one of the SDK, with the reason in one line."""
    from botocore import exceptions as boto

    where = f"S3 bucket {bucket}" + (f", {key}" if key else "")
    if isinstance(error, boto.ClientError):
        return _answered(error.response, error.operation_name, bucket, key, where)
    if isinstance(error, boto.NoCredentialsError):
        return StoreDenied(
            f"{where}: no credentials found",
            fix="Fill in both keys, or give the worker a role, a profile or AWS_ACCESS_KEY_ID",
        )
    signing = (
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.SSOError,
        boto.ProfileNotFound,
        boto.RefreshWithMFAUnsupportedError,
    )
    if isinstance(error, signing):
        return StoreDenied(f"{where}: {_line(error)}", fix="Mend the credentials that the AWS client finds")
    if isinstance(error, boto.SSLError):
        return StoreError(f"{where}: {_line(error)}", fix="Set AWS_CA_BUNDLE to your company's certificates")
    if isinstance(error, boto.ParamValidationError | boto.InvalidEndpointConfigurationError):
        return StoreError(f"{where}: {_line(error)}", fix="Check the bucket's name and the endpoint URL")
    if isinstance(error, boto.NoRegionError):
        return StoreError(f"{where}: no region", fix=_REGION)
    return StoreUnavailable(
        f"{where}: {_line(error)}", fix="Check the endpoint URL and the network, then try again"
    )


def _answered(  # noqa: PLR0911 - a table
    response: Any, operation: str, bucket: str, key: str, where: str
) -> LinkspanError:
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return ObjectNotFound(
            f"S3 bucket {bucket} is not there",
            found=NO_BUCKET,
            fix="Create it, or correct its name in the block",
        )
    if code in _DENIED or status in {301, 401, 403}:
        fix = _DENIED.get(code, "Check the keys and what they are allowed to do")
        return StoreDenied(f"{where}: {code or status}: access refused", fix=fix)
    if code in {"NoSuchVersion", "InvalidVersionId"} or status == 405:
        # 405: the version is a delete marker.
        return changed(key)
    if status == 404:
        return ObjectNotFound(f"{where} is not there")
    if status == 412 or code == "PreconditionFailed":
        # Only reads are conditional on If-Match, only creates on If-None-Match.
        return changed(key) if operation == "GetObject" else ObjectExists(f"{where} is there already")
    if status == 409 and code in {"ConditionalRequestConflict", "OperationAborted"}:
        return StoreUnavailable(
            f"{where}: a concurrent upload is in the way", found=CONFLICT, fix="Try again"
        )
    if code in _BUSY or status in {408, 429} or status >= 500:
        if status == 501:
            return StoreError(
                f"{where}: this endpoint cannot create objects conditionally ({message})",
                fix="Use a store that supports If-None-Match on PUT",
            )
        return StoreUnavailable(f"{where}: {code or status} {message}".rstrip(), fix="Try again later")
    return StoreError(f"{where}: {code} {message}".rstrip(), found=f"status {status}")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
