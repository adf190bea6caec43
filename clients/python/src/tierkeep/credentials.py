"""The caller: the two credentials and the public user name that are sent with each request."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """The caller of a request. Secrets are hidden in ``repr``.

    >>> Credentials.public("octocat")
    Credentials(username='octocat')
    >>> Credentials.internal(jwt="eyJ...", github_token="gho_...")
    Credentials(jwt=..., github_token=...)
    >>> Credentials.role("eyJ...").headers()
    {'Authorization': 'Bearer eyJ...'}
    """

    jwt: str | None = None
    """An access token; with the GitHub token it makes the caller internal."""
    github_token: str | None = None
    """A GitHub token of the JWT's owner."""
    username: str | None = None
    """The name of a public user."""

    @classmethod
    def public(cls, username: str) -> Credentials:
        """A public user, identified by name."""
        return cls(username=username)

    @classmethod
    def internal(cls, *, jwt: str, github_token: str) -> Credentials:
        """An internal user, identified by a JWT and a GitHub token of the same person."""
        return cls(jwt=jwt, github_token=github_token)

    @classmethod
    def role(cls, jwt: str) -> Credentials:
        """A JWT alone, for the routes that require the role ``hr`` or ``admin``."""
        return cls(jwt=jwt)

    @classmethod
    def of(cls, headers: Mapping[str, str], username: str | None = None) -> Credentials:
        """The caller of a request with these headers; their names may be in any letter case.

        >>> Credentials.of({"authorization": "bearer eyJ...", "x-github-token": "gho_..."})
        Credentials(jwt=..., github_token=...)
        """
        known = {name.lower(): value for name, value in headers.items()}
        scheme, _, token = known.get("authorization", "").partition(" ")
        return cls(
            jwt=token.strip() if scheme.lower() == "bearer" else None,
            github_token=known.get("x-github-token"),
            username=username,
        )

    def headers(self) -> dict[str, str]:
        """The headers that carry the credentials."""
        sent: dict[str, str] = {}
        if self.jwt is not None:
            sent["Authorization"] = f"Bearer {self.jwt}"
        if self.github_token is not None:
            sent["X-GitHub-Token"] = self.github_token
        return sent

    def __repr__(self) -> str:
        shown: list[str] = []
        if self.jwt is not None:
            shown.append("jwt=...")
        if self.github_token is not None:
            shown.append("github_token=...")
        if self.username is not None:
            shown.append(f"username={self.username!r}")
        return f"Credentials({', '.join(shown)})"


ANONYMOUS = Credentials()
"""No credentials and no name; sufficient for health, metrics and the OpenAPI document."""


def forwarded(address: str | None) -> dict[str, str]:
    """The header with the address of the end user.

    Raises ``ValueError`` if the text is not an IP address: the service would ignore it and count the
    request for the proxy.

    >>> forwarded("203.0.113.7")
    {'X-Forwarded-For': '203.0.113.7'}
    """
    if address is None:
        return {}
    # A zone names an interface of this host and means nothing to the service.
    bare = address.partition("%")[0]
    return {"X-Forwarded-For": str(ipaddress.ip_address(bare))}
