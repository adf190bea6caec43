"""An evaluation service on top of tierkeep: scans of repositories, their progress, HR records, a view for admins.

    TIERKEEP_URL=http://127.0.0.1:8080 uvicorn evaluation:app --port 8000

Public users are named with ``?username=``; internal users bring their JWT and GitHub token. Which database holds what
is tierkeep's to decide: nothing here asks what type of user it serves.
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
        "description": "tierkeep's refusal (RFC 9457), or FastAPI's own",
        "content": {"application/problem+json": {}, "application/json": {}},
    }
}
# How often a change is tried again on what somebody else wrote meanwhile.
ATTEMPTS = 5


class Scan(pydantic.BaseModel):
    """What is asked for: a repository at a commit."""

    commit: str = pydantic.Field(pattern=r"^[0-9a-f]{7,40}$")
    files: int = pydantic.Field(ge=0, le=1_000_000)


class Progress(pydantic.BaseModel):
    """How far an analysis is."""

    step: Literal["queued", "cloning", "scoring", "done"]
    percent: int = pydantic.Field(ge=0, le=100)


class Candidate(pydantic.BaseModel):
    """What HR keeps of a candidate."""

    name: str = pydantic.Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
    score: int = pydantic.Field(ge=0, le=100)


@app.put("/scans/{repository}", responses=PROBLEM)
async def scan(repository: Repository, wanted: Scan, client: Caller) -> dict[str, Any]:
    """Records the result of a scan, beside those of other repositories."""
    found = {"commit": wanted.commit, "score": min(100, wanted.files), "at": now()}
    changed = await client.patch_section("scan_cache", {repository: found})
    return {"repository": repository, "score": found["score"], "stored_in": changed.database}


@app.get("/scans", responses=PROBLEM)
async def scans(client: Caller) -> dict[str, Any]:
    """Every scan of the caller."""
    try:
        return (await client.read_section("scan_cache")).content
    except (errors.UserNotFoundError, errors.SectionNotFoundError):
        return {}


@app.post("/progress/{repository}", responses=PROBLEM)
async def advance(repository: Repository, reached: Progress, client: Caller) -> dict[str, Any]:
    """Notes how far an analysis is; it never goes back, whoever else reports it at the same time."""
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
    raise fastapi.HTTPException(409, "others report the same progress")


@app.put("/hr/candidates/{id}", responses=PROBLEM)
async def candidate(id: RecordId, known: Candidate, client: Caller) -> dict[str, Any]:
    """Keeps a candidate, with its backup; for JWTs with the role hr."""
    record = await client.replace_hr_record("hr_candidates", id, known.model_dump())
    return {"id": record.id, "version": record.version, "backup": record.metadata.backup_status}


@app.get("/hr/candidates/{id}", responses=PROBLEM)
async def candidate_of(id: RecordId, client: Caller) -> dict[str, Any]:
    """One candidate; for JWTs with the role hr."""
    return (await client.read_hr_record("hr_candidates", id)).content


@app.get("/admin", responses=PROBLEM)
async def admin(client: Caller) -> dict[str, Any]:
    """What administrators look at first; for JWTs with the role admin."""
    overview = await client.overview()
    return {
        "documents": {it.name: it.documents for it in overview.databases},
        "due": overview.due,
        "failed": overview.failed,
        "alerts": [alert.message for alert in overview.alerts or ()],
    }


@app.get("/health")
async def health(response: Response) -> dict[str, Any]:
    """Whether this service and tierkeep are fit to serve."""
    ready = await tierkeep.anonymous.ready()
    response.status_code = 200 if ready.status in {"ok", "degraded"} else 503
    return {"status": ready.status, "reasons": ready.reasons}


def now() -> str:
    """The moment, as it is stored."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
