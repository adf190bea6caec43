"""The components of the evaluation service, by the names that its code uses.

The classes without a prefix block, those with ``Async`` are awaited; both work through the service.
``docs/from-your-code.md`` describes how to replace existing calls.

>>> from tierkeep import Client
>>> detector = UserTypeDetector(Client(service_url))
>>> detector.is_internal_user(Credentials.public("octocat"))
False
>>> detector.get_user_id_with_prefix({"login": "Octocat"}, "external")
'external_octocat'
>>> detector.get_appropriate_database("internal")
'raseen_temp_user'
"""

from ._async.seed import (
    AsyncAuditDatabase,
    AsyncDatabase,
    AsyncDatabaseConnectionManager,
    AsyncDataMigrationService,
    AsyncFirstDatabase,
    AsyncHrDatabase,
    AsyncUserDatabase,
    AsyncUserTypeDetector,
)
from ._names import DataCategory, LoggingService, UserType, WrongDatabaseError
from ._sync.seed import (
    AuditDatabase,
    Database,
    DatabaseConnectionManager,
    DataMigrationService,
    FirstDatabase,
    HrDatabase,
    UserDatabase,
    UserTypeDetector,
)
from .credentials import Credentials

__all__ = [
    "AsyncAuditDatabase",
    "AsyncDataMigrationService",
    "AsyncDatabase",
    "AsyncDatabaseConnectionManager",
    "AsyncFirstDatabase",
    "AsyncHrDatabase",
    "AsyncUserDatabase",
    "AsyncUserTypeDetector",
    "AuditDatabase",
    "Credentials",
    "DataCategory",
    "DataMigrationService",
    "Database",
    "DatabaseConnectionManager",
    "FirstDatabase",
    "HrDatabase",
    "LoggingService",
    "UserDatabase",
    "UserType",
    "UserTypeDetector",
    "WrongDatabaseError",
]
