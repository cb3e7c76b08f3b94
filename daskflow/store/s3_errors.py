"""What S3 and its SDK refuse, in the words of a store."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from daskflow.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDPOINT = "Is the endpoint (AWS_ENDPOINT_URL, or ?endpoint_url= of the store's URL) that of an S3 server, with https where needed?"
_BUSY = frozenset(
    {
        *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"),
        *(
            "InternalError",
            "ServiceUnavailable",
            "RequestTimeout",
            "OperationAborted",
            "ConditionalRequestConflict",
            "NoSuchUpload",  # it was completed, and the answer lost: the object is written anew
        ),
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"})


@contextlib.contextmanager
def explained(verb: str, place: str) -> Iterator[None]:
    """Errors of the SDK as ours: ``FileNotFoundError`` for a missing object, else a :class:`StoreError` in one sentence."""
    try:
        yield
    except (StoreError, FileNotFoundError):
        raise
    except RecursionError as error:  # the SDK follows a redirect that names no region for ever
        raise StoreError(
            f"Can't {verb} {place}: what answers only sends elsewhere (a redirect). {ENDPOINT}"
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("botocore", "urllib3"):
            raise
        raise _as_ours(error, verb, place) from error


def _as_ours(error: Exception, verb: str, place: str) -> Exception:
    code = code_of(error)
    bucket = place.removeprefix("s3://").partition("/")[0]
    said = _said(error)
    trouble = f"Can't {verb} {place}"
    if code in ("NoSuchKey", "NoSuchVersion") or (code == "404" and verb != "list"):
        return FileNotFoundError(place)
    if code in ("NoSuchBucket", "404"):
        return StoreError(
            f"{trouble}: there is no bucket '{bucket}'. Create it, or name another with --datastore."
        )
    if code in _EXPIRED:
        return StoreError(
            f"{trouble}: the AWS credentials have expired. Renew them; then type the command again, or `continue` if a run "
            "had begun."
        )
    if code == "RequestTimeTooSkewed":
        return StoreError(
            f"{trouble}: the clock of this machine and that of the server differ too much. Set this one right, then type "
            "the command again, or `continue` if a run had begun."
        )
    if code in _UNKNOWN_KEY:
        return StoreError(f"{trouble}: the AWS credentials are not accepted: {said}")
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return StoreError(
            f"{trouble}: access is denied. A store needs s3:ListBucket on the bucket, s3:GetObject, s3:PutObject and "
            f"s3:AbortMultipartUpload on what is below the prefix."
        )
    if code == "PreconditionFailed" and verb == "read":
        return replaced(place)
    if code in (
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
    ):
        region = _region(error)
        there = f"is in {region}" if region else "is in another region"
        return StoreError(
            f"{trouble}: the bucket {there}; set AWS_DEFAULT_REGION, or ?region= in the store's URL."
        )
    if code == "NotImplemented":
        return StoreError(
            f"{trouble}: {said} A store needs an S3 that keeps conditional writes (If-None-Match)."
        )
    if code in _BUSY or _status(error) >= 500 or _is_of_the_network(error):
        return Unavailable(f"{trouble}: {said}")
    if not code and _status(error) >= 300:
        return StoreError(f"{trouble}: it was answered with {_status(error)}, and not as S3 does. {ENDPOINT}")
    return StoreError(f"{trouble}: {said}")


def replaced(place: str) -> Unavailable:
    """What is raised if an object is not the one any more whose begin was read."""
    return Unavailable(f"Can't read {place}: it was replaced while it was read.")


def _response(error: Exception) -> dict[str, Any]:
    found: dict[str, Any] = getattr(error, "response", None) or {}
    return found


def code_of(error: Exception) -> str:
    """The code that S3 answered with; empty if the error is none of its answers."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _region(error: Exception) -> str:
    headers = _response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(_response(error).get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", ""))


def _said(error: Exception) -> str:
    """What S3 or the SDK said, as a sentence."""
    code, message = code_of(error), _response(error).get("Error", {}).get("Message")
    text = f"{message or 'no reason given'} ({code})" if code else str(error) or type(error).__name__
    text = re.sub(r"\?[^\s\"]*", "", " ".join(text.split()))  # the query of a URL tells nobody anything
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        text += "; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if type(error).__name__ == "ProfileNotFound":
        text = f"{text.rstrip('.')}; set AWS_PROFILE, or ?profile= of the store's URL, to one that ~/.aws/config has"
    return text if text.endswith(".") else f"{text}."


def _is_of_the_network(error: Exception) -> bool:
    """Whether what was asked never came, or no whole answer did."""
    from botocore import exceptions

    kinds = (
        exceptions.HTTPClientError,
        exceptions.ResponseStreamingError,
        exceptions.IncompleteReadError,
        exceptions.ConnectionError,
        exceptions.MetadataRetrievalError,
    )
    return isinstance(error, kinds) or type(error).__module__.startswith("urllib3")
