"""The evaluation service's names: which database holds what, what ids look like, how operations are logged."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

from .credentials import Credentials
from .errors import TierkeepError

UserType = Literal["internal", "external"]
DataCategory = Literal["user", "hr", "audit"]

EXTERNAL_USERS = "external_users"
RASEEN_TEMP_USER = "raseen_temp_user"
RASEEN_MAIN_USER = "raseen_main_user"
RASEEN_MAIN_HR = "raseen_main_hr"
SRIE_MAIN_USER = "srie_main_user"
SRIE_MAIN_HR = "srie_main_hr"
EVALUATION_AUDIT = "evaluation_audit"

LOCATIONS = {"external": EXTERNAL_USERS, "temp": RASEEN_TEMP_USER, "main": RASEEN_MAIN_USER}
"""The database that `data_location` stands for."""
_USER_DATABASES: dict[UserType, str] = {"internal": RASEEN_TEMP_USER, "external": EXTERNAL_USERS}
_SUBJECT = re.compile(r"[0-9A-Fa-f]{24}")
_USERNAME = re.compile(r"[A-Za-z0-9_-]{1,39}")
_MARKERS: dict[UserType, str] = {
    "internal": "\N{CLOSED LOCK WITH KEY} [INTERNAL] ",
    "external": "\N{GLOBE WITH MERIDIANS} [EXTERNAL] ",
}


class WrongDatabaseError(TierkeepError):
    """The caller's data belongs in another database. Nothing was written."""

    def __init__(self, user_id: str, database: str, writes: str) -> None:
        super().__init__(f"{user_id} is written to {writes}, not to {database}")
        self.user_id = user_id
        self.database = database
        self.writes = writes


def user_id_with_prefix(user_data: Mapping[str, Any], user_type: UserType) -> str:
    """The id of a user: from `sub`, `id` or `_id` of an internal one, `username` or `login` of an external one."""
    names, pattern = (("sub", "id", "_id"), _SUBJECT) if user_type == "internal" else (("username", "login"), _USERNAME)
    for name in names:
        # An ObjectId is written as its digits.
        if (value := user_data.get(name)) is not None and pattern.fullmatch(text := str(value)):
            return f"{user_type}_{text.lower()}"
    known = " or ".join(names)
    raise ValueError(f"no {known} that makes the id of an {user_type} user")


def appropriate_database(user_type: UserType, data_category: DataCategory) -> str:
    """The name of the database into which new data is written first."""
    match data_category:
        case "user":
            return _USER_DATABASES[user_type]
        case "hr":
            return RASEEN_MAIN_HR
        case "audit":
            return EVALUATION_AUDIT


def credentials_of(request: Any) -> Credentials:
    """The credentials of a request: one of FastAPI, Starlette, Flask or Django, or `Credentials` themselves."""
    if isinstance(request, Credentials):
        return request
    for name in ("query_params", "args", "GET"):
        if (query := getattr(request, name, None)) is not None:
            return Credentials.of(request.headers, query.get("username"))
    return Credentials.of(request.headers)


class LoggingService:
    """Logs operations with the marker of the user's type, as the service does.

    >>> import logging, sys
    >>> logging.basicConfig(stream=sys.stdout, format="%(message)s (%(user_id)s)", level=logging.INFO, force=True)
    >>> LoggingService().log_external_operation("scan stored", "external_octocat")
    🌐 [EXTERNAL] scan stored (external_octocat)
    >>> logging.basicConfig(force=True)
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Logs to ``logger``, by default that of the name ``tierkeep``."""
        self._logger = logger or logging.getLogger("tierkeep")

    def log_internal_operation(self, message: str, user_id: str, level: int = logging.INFO) -> None:
        """Logs an operation of an internal user."""
        self._log("internal", message, user_id, level)

    def log_external_operation(self, message: str, user_id: str, level: int = logging.INFO) -> None:
        """Logs an operation of a public user."""
        self._log("external", message, user_id, level)

    def _log(self, user_type: UserType, message: str, user_id: str, level: int) -> None:
        fields = {"user_id": user_id, "user_type": user_type}
        self._logger.log(level, "%s%s", _MARKERS[user_type], message, extra=fields)
