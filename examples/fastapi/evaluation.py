"""An evaluation service on top of tierkeep: scans of repositories, their progress, HR records, a view for admins.

    TIERKEEP_URL=http://127.0.0.1:8080 uvicorn evaluation:app --port 8000

Public users are named with ``?username=``; internal users send their JWT and GitHub token. tierkeep chooses the
database: this service does not distinguish types of users.
"""

from __future__ import annotations

import datetime
import os
from typing import Annotated, Any, Literal

import fastapi
import pydantic
from fastapi import Depends, FastAPI, Path, Response
from tierkeep import AsyncClient, errors
from tierkeep.fastapi import Tierkeep

tierkeep = Tierkeep(os.environ.get("TIERKEEP_URL", "http://127.0.0.1:8080"))
app = FastAPI(title="evaluation", lifespan=tierkeep.lifespan)
# The user's own data as it is stored: GET, PUT, PATCH and DELETE /my/user/{section}.
tierkeep.install(app, prefix="/my")

Caller = Annotated[AsyncClient, Depends(tierkeep.client)]
RecordId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._:@-]{1,128}$")]
Repository = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "an error of tierkeep (RFC 9457) or of FastAPI",
        "content": {"application/problem+json": {}, "application/json": {}},
    }
}
# The number of attempts of a change that conflicts with concurrent changes.
ATTEMPTS = 5


class Scan(pydantic.BaseModel):
    """A request to scan a repository at a commit."""

    commit: str = pydantic.Field(pattern=r"^[0-9a-f]{7,40}$")
    files: int = pydantic.Field(ge=0, le=1_000_000)


class Progress(pydantic.BaseModel):
    """The progress of an analysis."""

    step: Literal["queued", "cloning", "scoring", "done"]
    percent: int = pydantic.Field(ge=0, le=100)


class Candidate(pydantic.BaseModel):
    """HR's record of a candidate."""

    name: str = pydantic.Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
    score: int = pydantic.Field(ge=0, le=100)


@app.put("/scans/{repository}", responses=PROBLEM)
async def scan(repository: Repository, wanted: Scan, client: Caller) -> dict[str, Any]:
    """Records the result of a scan; keeps those of other repositories."""
    found = {"commit": wanted.commit, "score": min(100, wanted.files), "at": now()}
    changed = await client.patch_section("scan_cache", {repository: found})
    return {"repository": repository, "score": found["score"], "stored_in": changed.database}


@app.get("/scans", responses=PROBLEM)
async def scans(client: Caller) -> dict[str, Any]:
    """Lists every scan of the caller."""
    try:
        return (await client.read_section("scan_cache")).content
    except (errors.UserNotFoundError, errors.SectionNotFoundError):
        return {}


@app.post("/progress/{repository}", responses=PROBLEM)
async def advance(repository: Repository, reached: Progress, client: Caller) -> dict[str, Any]:
    """Records the progress of an analysis; concurrent reports never decrease it."""
    for _ in range(ATTEMPTS):
        try:
            section = await client.read_section("analysis_progress")
            known, condition = section.content, {"if_match": section.version}
        except errors.UserNotFoundError:
            known, condition = {}, {"if_none_match": "*"}
        except errors.SectionNotFoundError:
            known, condition = {}, {"if_match": (await client.read_user()).version}
        if known.get(repository, {}).get("percent", -1) >= reached.percent:
            return known
        later = known | {repository: reached.model_dump() | {"at": now()}}
        try:
            await client.replace_section("analysis_progress", later, **condition)
        except errors.VersionMismatchError:
            continue
        return later
    raise fastapi.HTTPException(409, "concurrent reports of the same progress")


@app.put("/hr/candidates/{id}", responses=PROBLEM)
async def candidate(id: RecordId, known: Candidate, client: Caller) -> dict[str, Any]:
    """Stores a candidate, with its backup; requires a JWT with the role hr."""
    record = await client.replace_hr_record("hr_candidates", id, known.model_dump())
    return {"id": record.id, "version": record.version, "backup": record.metadata.backup_status}


@app.get("/hr/candidates/{id}", responses=PROBLEM)
async def candidate_of(id: RecordId, client: Caller) -> dict[str, Any]:
    """Reads a candidate; requires a JWT with the role hr."""
    return (await client.read_hr_record("hr_candidates", id)).content


@app.get("/admin", responses=PROBLEM)
async def admin(client: Caller) -> dict[str, Any]:
    """Shows the state of the system; requires a JWT with the role admin."""
    overview = await client.overview()
    return {
        "documents": {it.name: it.documents for it in overview.databases},
        "due": overview.due,
        "failed": overview.failed,
        "alerts": [alert.message for alert in overview.alerts or ()],
    }


@app.get("/health")
async def health(response: Response) -> dict[str, Any]:
    """The health of this service and tierkeep."""
    ready = await tierkeep.anonymous.ready()
    response.status_code = 200 if ready.status in {"ok", "degraded"} else 503
    return {"status": ready.status, "reasons": ready.reasons}


def now() -> str:
    """The current time, as it is stored."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
