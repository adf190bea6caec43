"""Callers of every kind, and what the decision table says of each."""

from __future__ import annotations

import dataclasses
import datetime

import deployment
import jwt
import tierkeep
from hypothesis import strategies as st
from tierkeep import errors

# What a JWT can be; only the first is valid.
JWTS = ["valid", "missing", "expired", "forged", "refresh", "without exp", "unsigned", "garbage"]
# What a GitHub token can be.
GITHUB = ["good", "missing", "bad", "away"]
REFUSALS: dict[str, type[errors.ServiceError]] = {
    "refused": errors.CredentialsRequiredError,
    "unavailable": errors.IdentityUnavailableError,
}


@dataclasses.dataclass(frozen=True)
class Caller:
    """One caller: the credentials that come along, and the public name."""

    subject: str
    jwt: str
    github: str
    username: str | None

    def credentials(self) -> tierkeep.Credentials:
        """What the caller sends."""
        return tierkeep.Credentials(
            jwt=_jwt(self.jwt, self.subject),
            github_token=None if self.github == "missing" else f"{self.github}-{self.subject}",
            username=self.username,
        )

    @property
    def decision(self) -> str:
        """`internal`, `external`, `refused` or `unavailable`."""
        if self.username is not None:
            return "external"
        if self.jwt != "valid" or self.github in ("missing", "bad"):
            return "refused"
        return "unavailable" if self.github == "away" else "internal"

    @property
    def refusal(self) -> type[errors.ServiceError] | None:
        """What the service answers instead of a user's data."""
        return REFUSALS.get(self.decision)

    @property
    def user_id(self) -> str | None:
        """The id of the user that the request addresses, if there is one."""
        return {
            "external": f"external_{(self.username or '').lower()}",
            "internal": f"internal_{self.subject}",
        }.get(self.decision)

    @property
    def database(self) -> str:
        """Where what the caller writes is stored first."""
        return "external_users" if self.decision == "external" else "raseen_temp_user"


def _jwt(kind: str, subject: str) -> str | None:
    match kind:
        case "missing":
            return None
        case "expired":
            past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
            return deployment.token(subject, exp=int(past.timestamp()))
        case "forged":
            claims = {"sub": subject, "type": "access", "exp": 4102444800}
            return jwt.encode(claims, "somebody else's secret of thirty-two bytes", "HS256")
        case "refresh":
            return deployment.token(subject, type="refresh")
        case "without exp":
            return deployment.token(subject, exp=None)
        case "unsigned":
            return jwt.encode({"sub": subject, "type": "access", "exp": 4102444800}, None, "none")
        case "garbage":
            return "a.b.c"
        case _:
            return deployment.token(subject)


_alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
# New on every run: the databases outlive an example.
usernames = st.builds(
    lambda prefix: f"{prefix}-{deployment.subject()}", st.text(_alphabet, min_size=1, max_size=14)
)
subjects = st.builds(deployment.subject)


def callers() -> st.SearchStrategy[Caller]:
    """Callers with every mix of credentials."""
    return st.builds(
        Caller,
        subject=subjects,
        jwt=st.sampled_from(JWTS),
        github=st.sampled_from(GITHUB),
        username=st.none() | usernames,
    )


def known_callers() -> st.SearchStrategy[Caller]:
    """Callers whom the service lets in: an internal user, or a public name."""
    internal = st.builds(
        Caller, subject=subjects, jwt=st.just("valid"), github=st.just("good"), username=st.none()
    )
    public = st.builds(
        Caller, subject=subjects, jwt=st.just("missing"), github=st.just("missing"), username=usernames
    )
    return internal | public


# What sections hold: any JSON object whose keys the service does not read as Extended JSON.
_keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).filter(
    lambda key: not key.startswith("$")
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=8,
)
contents = st.dictionaries(_keys, _values, max_size=4)
sections = st.sampled_from(["scan_cache", "analysis_progress"])
