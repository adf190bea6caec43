"""The client of tierkeep, a service that stores each user's document in one of seven databases.

>>> with Client(service_url, credentials=Credentials.public("octocat")) as client:
...     changed = client.replace_section("scan_cache", {"score": 87})
...     section = client.read_section("scan_cache")
>>> changed.user_id, changed.database, section.content, section.version == changed.version
('external_octocat', 'external_users', {'score': 87}, True)

:class:`AsyncClient` has the same methods as coroutines. Results are in :mod:`tierkeep.results`, errors in
:mod:`tierkeep.errors`; :mod:`tierkeep.fastapi` is for FastAPI applications, :mod:`tierkeep.seed` has the components of
the evaluation service by the names that its code uses.
"""

from ._async.client import AsyncClient
from ._protocol import Retry
from ._sync.client import Client
from .credentials import Credentials
from .errors import NoAnswerError, NotSentError, ServiceError, TierkeepError, TransportError, UnexpectedAnswerError

__all__ = [
    "AsyncClient",
    "Client",
    "Credentials",
    "NoAnswerError",
    "NotSentError",
    "Retry",
    "ServiceError",
    "TierkeepError",
    "TransportError",
    "UnexpectedAnswerError",
]
