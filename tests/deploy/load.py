"""A small load on a running service: each type of user, a refusal, an answer with 5xx and a move."""

from __future__ import annotations

import deployment
import httpx
import tierkeep


class Served:
    """A service and the deployment that it serves."""

    def __init__(self, deployed: deployment.Deployment, service: deployment.Service) -> None:
        self.deployed = deployed
        self.service = service
        self.base = service.base
        self.user = deployment.subject()

    def ask(self) -> None:
        """A request of each kind."""
        public = self.service.client(tierkeep.Credentials.public("octocat"))
        public.replace_section("scan_cache", {"score": 87})
        public.read_section("scan_cache")
        internal = self.service.client(deployment.internal(self.user))
        internal.replace_section("scan_cache", {"score": 91})
        internal.read_section("scan_cache")
        assert httpx.get(f"{self.base}/v1/user", trust_env=False).status_code == 401
        # GitHub does not answer for this token.
        headers = {
            "Authorization": f"Bearer {deployment.token(deployment.subject())}",
            "X-GitHub-Token": "away",
        }
        assert httpx.get(f"{self.base}/v1/user", headers=headers, trust_env=False).status_code == 503

    def move(self) -> None:
        """Moves the internal user's document."""
        moved = self.deployed.json("migrate", "run", "--older-than", "0s")
        assert moved["moved"] == 1, moved

    def metrics(self) -> str:
        """What the service serves to Prometheus."""
        return httpx.get(f"{self.base}/metrics", trust_env=False).raise_for_status().text
