"""Every way in which a call can fail.

The service's refusals are problem details (RFC 9457) with a stable ``code``; each code has a class here. A class
says with ``nothing_changed`` whether the service guarantees that the request changed nothing.

>>> error = of_code("user_not_found")
>>> error.__name__, error.status, error.nothing_changed
('UserNotFoundError', 404, True)
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar


class TierkeepError(Exception):
    """What every error of this package is derived from."""


class TransportError(TierkeepError):
    """No answer of the service arrived.

    ``request_id`` is the ``X-Request-Id`` that was sent, by which the service's log can be searched.
    """

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(f"{message} (request {request_id})")
        self.request_id = request_id


class NotSentError(TransportError):
    """The service could not be reached; it never saw the request, so nothing changed."""


class NoAnswerError(TransportError):
    """The request was sent, and the connection broke or the time was over before its answer came.

    Whether a change was made is not known: read the document, or repeat the write with ``if_match``.
    """


class UnexpectedAnswerError(TierkeepError):
    """The answer is not one that the service gives: a proxy's, or that of another version."""

    def __init__(self, message: str, status: int, request_id: str) -> None:
        super().__init__(f"{message} (status {status}, request {request_id})")
        self.status = status
        self.request_id = request_id


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """The body of a refusal, with the service's names."""

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
    """The service refused. Codes newer than this package arrive as this class itself."""

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
        """The refusal as it was sent."""
        self.request_id = request_id
        """Leads to the lines in the service's log."""
        self.retry_after = retry_after
        """After how many seconds it is worth trying again; ``None`` where the service does not say."""
        self.version = version
        """The document's version, where the refusal's ``ETag`` tells it."""

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
    """400: the request cannot be read."""

    code, status, nothing_changed = "malformed", 400, True


class AmbiguousIdentityError(ServiceError):
    """400: a public user name and credentials came together, in strict mode."""

    code, status, nothing_changed = "ambiguous_identity", 400, True


class CredentialsRequiredError(ServiceError):
    """401: credentials or a user name are required."""

    code, status, nothing_changed = "credentials_required", 401, True


class RoleRequiredError(ServiceError):
    """403: the JWT lacks the role that ``detail`` names."""

    code, status, nothing_changed = "role_required", 403, True


class PublicWritesOffError(ServiceError):
    """403: public users may only read here."""

    code, status, nothing_changed = "public_writes_off", 403, True


class NotFoundError(ServiceError):
    """404: the service has no such path."""

    code, status, nothing_changed = "not_found", 404, True


class UserNotFoundError(ServiceError):
    """404: the user is not stored."""

    code, status, nothing_changed = "user_not_found", 404, True


class SectionNotFoundError(ServiceError):
    """404: the user is stored, the section is not."""

    code, status, nothing_changed = "section_not_found", 404, True


class UnknownSectionError(ServiceError):
    """404: the service keeps no section of this name."""

    code, status, nothing_changed = "unknown_section", 404, True


class UnknownCollectionError(ServiceError):
    """404: the service keeps no HR collection of this name."""

    code, status, nothing_changed = "unknown_collection", 404, True


class RecordNotFoundError(ServiceError):
    """404: the HR record is not stored."""

    code, status, nothing_changed = "record_not_found", 404, True


class UnknownDatabaseError(ServiceError):
    """404: no database has this name."""

    code, status, nothing_changed = "unknown_database", 404, True


class MethodNotAllowedError(ServiceError):
    """405: the path does not support the method."""

    code, status, nothing_changed = "method_not_allowed", 405, True


class RequestTimeoutError(ServiceError):
    """408: the body did not arrive in time."""

    code, status, nothing_changed = "request_timeout", 408, True


class ConflictError(ServiceError):
    """409: the stored documents contradict each other; an operator has to look."""

    code, status, nothing_changed = "conflict", 409, True


class MoverPausedError(ServiceError):
    """409: an administrator stopped the movement everywhere."""

    code, status, nothing_changed = "mover_paused", 409, True


class VersionMismatchError(ServiceError):
    """412: the condition does not hold; ``version`` is the document's, where it is known."""

    code, status, nothing_changed = "version_mismatch", 412, True


class TooLargeError(ServiceError):
    """413: the body or the document would be too large."""

    code, status, nothing_changed = "too_large", 413, True


class UnsupportedMediaTypeError(ServiceError):
    """415: the route does not take a body of this type."""

    code, status, nothing_changed = "unsupported_media_type", 415, True


class InvalidContentError(ServiceError):
    """422: the content cannot be stored; ``detail`` names the place."""

    code, status, nothing_changed = "invalid_content", 422, True


class InvalidUsernameError(ServiceError):
    """422: the user name is not 1 to 39 letters, digits, hyphens and underscores."""

    code, status, nothing_changed = "invalid_username", 422, True


class RateLimitedError(ServiceError):
    """429: too many requests; ``retry_after`` says when to try again."""

    code, status, nothing_changed = "rate_limited", 429, True


class CorruptDocumentError(ServiceError):
    """500: the stored document is damaged and cannot be read."""

    code, status = "corrupt_document", 500


class InternalError(ServiceError):
    """500: a defect of the service; whether a write happened is not known."""

    code, status = "internal", 500


class DatabaseUnavailableError(ServiceError):
    """503: a database did not answer; whether a write happened is not known."""

    code, status = "database_unavailable", 503


class IdentityUnavailableError(ServiceError):
    """503: GitHub could not be asked about the token."""

    code, status, nothing_changed = "identity_unavailable", 503, True


class OutcomeUnknownError(ServiceError):
    """503: whether the change was made is not known."""

    code, status = "outcome_unknown", 503


BY_CODE: dict[str, type[ServiceError]] = {kind.code: kind for kind in ServiceError.__subclasses__()}
"""The class of each stable code."""


def of_code(code: str) -> type[ServiceError]:
    """The class of a code; :class:`ServiceError` where the code is unknown."""
    return BY_CODE.get(code, ServiceError)
