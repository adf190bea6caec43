"""Runs commands where `mongodb+srv` names are resolved: called by `test_srv.py` in new namespaces of network and mounts.

There is a resolver on the loopback that knows one zone, and a MongoDB server, a replica set of one member. Prints the exit code
and what was written of each command as JSON.
"""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import launcher
import pymongo

ZONE = {
    ("_mongodb._tcp.cluster.example.test.", "SRV"): [
        "0 0 27017 db0.example.test.",
        # Nothing listens there.
        "0 0 27018 db1.example.test.",
    ],
    ("cluster.example.test.", "TXT"): ['"replicaSet=srv"'],
    ("db0.example.test.", "A"): ["127.0.0.1"],
    ("db1.example.test.", "A"): ["127.0.0.1"],
}


def answer(asked: bytes) -> bytes:
    """What the zone holds of it."""
    query = dns.message.from_wire(asked)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA | dns.flags.RA
    for question in query.question:
        name = question.name.to_text().lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        if records := ZONE.get((name, kind)):
            response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *records))
        elif not any(known == name for known, _ in ZONE):
            response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def resolve() -> None:
    """Answers on the port of a resolver, and lets the machine's libraries ask there."""
    port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            asked, caller = port.recvfrom(4096)
            port.sendto(answer(asked), caller)

    threading.Thread(target=serve, daemon=True).start()
    launcher.mount("none", "/", None, launcher.MS_REC | launcher.MS_PRIVATE)
    for name, text in [
        ("resolv.conf", "nameserver 127.0.0.1\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ]:
        place = pathlib.Path("/etc", name)
        if place.exists():
            file = tempfile.NamedTemporaryFile("w", delete=False, dir="/dev/shm")
            file.write(text)
            file.close()
            pathlib.Path(file.name).chmod(0o644)
            launcher.mount(file.name, str(place.resolve()), None, launcher.MS_BIND)
            pathlib.Path(file.name).unlink()


def main() -> None:
    """Starts everything and runs the commands."""
    told = json.loads(sys.argv[1])
    launcher.loopback_up()
    resolve()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [told["mongod"], "--bind_ip", "127.0.0.1", "--port", "27017", "--replSet", "srv", "--nounixsocket"]
            + ["--wiredTigerCacheSizeGB", "0.25", "--dbpath", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            client = pymongo.MongoClient("mongodb://127.0.0.1:27017/?directConnection=true")
            members = [{"_id": 0, "host": "db0.example.test:27017"}]
            client.admin.command("replSetInitiate", {"_id": "srv", "members": members})
            users = pymongo.MongoClient("mongodb://db0.example.test:27017/?replicaSet=srv")
            users.get_database("raseen_temp_user").get_collection("internal_users").insert_one(told["document"])
            outcomes = []
            for command in told["commands"]:
                ran = subprocess.run(
                    [told["binary"], *command["arguments"]],
                    env=command["environment"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                outcomes.append({"code": ran.returncode, "out": ran.stdout, "err": ran.stderr})
            moved = users.get_database("raseen_main_user").get_collection("internal_users")
            print(json.dumps({"outcomes": outcomes, "moved": moved.count_documents({})}))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
