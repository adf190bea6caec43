"""The two routes on FastAPI with PyMongo's async client, as a service without tierkeep would have them."""

import socket
import sys
from typing import Annotated, Any

import jwt
import uvicorn
from fastapi import Body, Depends, FastAPI, Header, HTTPException
from pymongo import AsyncMongoClient

_, url, secret = sys.argv
users = AsyncMongoClient(url).get_default_database()["internal_users"]
app = FastAPI()


async def caller(authorization: Annotated[str, Header()], x_github_token: Annotated[str, Header()]) -> str:
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), secret, algorithms=["HS256"])
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error
    return f"internal_{claims['sub']}"


@app.get("/v1/user/scan_cache")
async def read(user: Annotated[str, Depends(caller)]) -> Any:
    found = await users.find_one({"_id": user}, {"_id": 0, "scan_cache": 1})
    if found is None:
        raise HTTPException(404)
    return found["scan_cache"]


@app.put("/v1/user/scan_cache")
async def replace(user: Annotated[str, Depends(caller)], section: Annotated[dict[str, Any], Body()]) -> None:
    await users.update_one({"_id": user}, {"$set": {"scan_cache": section}, "$inc": {"metadata.version": 1}})


listener = socket.create_server(("127.0.0.1", 0))
print("{}:{}".format(*listener.getsockname()), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
