"""The errors of this package.

The service's errors are problem details (RFC 9457) with a stable ``code``; each code has a class here.
``nothing_changed`` of a class states whether the service guarantees that the request changed nothing.

>>> error = of_code("user_not_found")
>>> error.__name__, error.status, error.nothing_changed
('UserNotFoundError', 404, True)
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar


class TierkeepError(Exception):
    """The base class of the errors of this package."""


class TransportError(TierkeepError):
    """The service did not answer.

    ``request_id`` is the ``X-Request-Id`` that was sent; the service's log contains it.
    """

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(f"{message} (request {request_id})")
        self.request_id = request_id


class NotSentError(TransportError):
    """The request could not be sent, so nothing changed."""


class NoAnswerError(TransportError):
    """The request was sent, but the connection was lost or timed out before the answer arrived.

    The outcome of a change is unknown: read the document, or repeat the write with ``if_match``.
    """


class UnexpectedAnswerError(TierkeepError):
    """The answer is not one of the service: it comes from a proxy or from a different version."""

    def __init__(self, message: str, status: int, request_id: str) -> None:
        super().__init__(f"{message} (status {status}, request {request_id})")
        self.status = status
        self.request_id = request_id


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """The body of an error, with the service's names."""

    type: str
    """The page about the code."""
    title: str
    """What the code means."""
    status: int
    """The HTTP status."""
    detail: str
    """The reason for this error."""
    code: str
    """The stable name."""


class ServiceError(TierkeepError):
    """The service answered with an error. Codes that this package does not know are raised as this class itself."""

    code: ClassVar[str] = ""
    status: ClassVar[int] = 0
    nothing_changed: ClassVar[bool] = False

    def __init__(
        self,
        problem: Problem,
        *,
        request_id: str,
        retry_after: float | None = None,
        version: int | None = None,
    ) -> None:
        super().__init__(f"{problem.code}: {problem.detail} (request {request_id})")
        self.problem = problem
        """The error as it was sent."""
        self.request_id = request_id
        """The id of the request in the service's log."""
        self.retry_after = retry_after
        """The delay in seconds before the next attempt; ``None`` if the service sent none."""
        self.version = version
        """The document's version, from the error's ``ETag``, if it has one."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.problem, self.request_id, self.retry_after, self.version)


def _restored(
    kind: type[ServiceError],
    problem: Problem,
    request_id: str,
    retry_after: float | None,
    version: int | None,
) -> ServiceError:
    return kind(problem, request_id=request_id, retry_after=retry_after, version=version)


class MalformedError(ServiceError):
    """400: the request is malformed."""

    code, status, nothing_changed = "malformed", 400, True


class AmbiguousIdentityError(ServiceError):
    """400: the request has both a public user name and credentials, in strict mode."""

    code, status, nothing_changed = "ambiguous_identity", 400, True


class CredentialsRequiredError(ServiceError):
    """401: credentials or a user name are required."""

    code, status, nothing_changed = "credentials_required", 401, True


class RoleRequiredError(ServiceError):
    """403: the JWT lacks the role that ``detail`` names."""

    code, status, nothing_changed = "role_required", 403, True


class PublicWritesOffError(ServiceError):
    """403: public users have read-only access."""

    code, status, nothing_changed = "public_writes_off", 403, True


class NotFoundError(ServiceError):
    """404: the path does not exist."""

    code, status, nothing_changed = "not_found", 404, True


class UserNotFoundError(ServiceError):
    """404: the user does not exist."""

    code, status, nothing_changed = "user_not_found", 404, True


class SectionNotFoundError(ServiceError):
    """404: the user exists, but the section does not."""

    code, status, nothing_changed = "section_not_found", 404, True


class UnknownSectionError(ServiceError):
    """404: the section name is unknown."""

    code, status, nothing_changed = "unknown_section", 404, True


class UnknownCollectionError(ServiceError):
    """404: the HR collection name is unknown."""

    code, status, nothing_changed = "unknown_collection", 404, True


class RecordNotFoundError(ServiceError):
    """404: the HR record does not exist."""

    code, status, nothing_changed = "record_not_found", 404, True


class UnknownDatabaseError(ServiceError):
    """404: the database name is unknown."""

    code, status, nothing_changed = "unknown_database", 404, True


class MethodNotAllowedError(ServiceError):
    """405: the path does not support the method."""

    code, status, nothing_changed = "method_not_allowed", 405, True


class RequestTimeoutError(ServiceError):
    """408: the body did not arrive in time."""

    code, status, nothing_changed = "request_timeout", 408, True


class ConflictError(ServiceError):
    """409: the stored documents are in conflict; an operator has to resolve it."""

    code, status, nothing_changed = "conflict", 409, True


class MoverPausedError(ServiceError):
    """409: an administrator has paused the mover."""

    code, status, nothing_changed = "mover_paused", 409, True


class VersionMismatchError(ServiceError):
    """412: the condition is not met; ``version`` is the document's version, if known."""

    code, status, nothing_changed = "version_mismatch", 412, True


class TooLargeError(ServiceError):
    """413: the body or the document is too large."""

    code, status, nothing_changed = "too_large", 413, True


class UnsupportedMediaTypeError(ServiceError):
    """415: the route does not support a body of this type."""

    code, status, nothing_changed = "unsupported_media_type", 415, True


class InvalidContentError(ServiceError):
    """422: the content cannot be stored; ``detail`` gives the position."""

    code, status, nothing_changed = "invalid_content", 422, True


class InvalidUsernameError(ServiceError):
    """422: the user name is not 1 to 39 letters, digits, hyphens and underscores."""

    code, status, nothing_changed = "invalid_username", 422, True


class RateLimitedError(ServiceError):
    """429: too many requests; ``retry_after`` is the delay before the next attempt."""

    code, status, nothing_changed = "rate_limited", 429, True


class CorruptDocumentError(ServiceError):
    """500: the stored document is damaged and cannot be read."""

    code, status = "corrupt_document", 500


class InternalError(ServiceError):
    """500: an internal error of the service; the outcome of a write is unknown."""

    code, status = "internal", 500


class DatabaseUnavailableError(ServiceError):
    """503: a database did not answer; the outcome of a write is unknown."""

    code, status = "database_unavailable", 503


class IdentityUnavailableError(ServiceError):
    """503: the caller's identity could not be verified, because GitHub or the source of the JWT keys is unavailable."""

    code, status, nothing_changed = "identity_unavailable", 503, True


class OutcomeUnknownError(ServiceError):
    """503: the outcome of the change is unknown."""

    code, status = "outcome_unknown", 503


BY_CODE: dict[str, type[ServiceError]] = {kind.code: kind for kind in ServiceError.__subclasses__()}
"""The class of each stable code."""


def of_code(code: str) -> type[ServiceError]:
    """The class of a code; :class:`ServiceError` where the code is unknown."""
    return BY_CODE.get(code, ServiceError)
