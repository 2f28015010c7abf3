#!/usr/bin/env python3
"""Sends the same requests to Lictor and to the real Consul and compares the answers: status, headers that clients read, body.

Indexes, addresses and names that are drawn at random are normalised. Indexes are compared by what they say: which are equal, and which is larger. What differs on
purpose is in INTENDED, each with its reason, and told in DIFFERENCES.md. The exit code is 1 if anything else differs, or if
something in INTENDED no longer does. Needs the real binary: in PATH, or named by $CONSUL.
"""

import argparse
import gzip
import http.client
import io
import json
import re
import socket
import sys
from typing import NamedTuple

import local
from corpus import AUTOPILOT, CORPUS, FAR_OFF, NEGATIVE, NOWHERE
from harness import Scene, check, consul, lictor

HEADERS = (
    "Allow",
    "Content-Encoding",
    "Content-Security-Policy",
    "Content-Type",
    "Location",
    "Vary",
    "X-Consul-Effective-Consistency",
    "X-Consul-Index",
    "X-Consul-Knownleader",
    "X-Consul-Lastcontact",
    "X-Consul-Reason",
    "X-Consul-Translate-Addresses",
    "X-Content-Type-Options",
)



class Intended(NamedTuple):
    """A request whose answers differ on purpose; DIFFERENCES.md says more about each."""

    method: str
    target: str
    body: str
    why: str


INTENDED = [
    Intended("GET", "/v1/kv/\u00e7", "", "request targets are ASCII"),
    Intended("PUT", "/v1/txn", '[{"KV": {"Verb": "get-or-empty", "Key": "tx/none"}}]', "verbs of later releases"),
    Intended("PUT", "/v1/txn", "[null]", "requests that make Consul drop the connection"),
    Intended("PUT", "/v1/txn", "garbage", "the words of JSON errors"),
    Intended("PUT", "/v1/coordinate/update", FAR_OFF, "coordinates that cannot be"),
    Intended("PUT", "/v1/coordinate/update", NOWHERE, "requests that make Consul drop the connection"),
    Intended("PUT", AUTOPILOT, NEGATIVE, "durations below zero"),
    Intended(*local.PORT, "ports that are none"),
    Intended(*local.TWICE, "two checks of one name in one registration"),
    Intended(*local.NULL_CHECK, "requests that make Consul drop the connection"),
    Intended(*local.TRUE_TTL, "durations that are none"),
    *[Intended(*request, "checks of later releases") for request in local.LATER_CHECKS],
    Intended(*local.OTHER_LETTERS, "", "ids in other letters"),
    Intended(*local.LONG_TAG, "tags without end"),
    Intended(*local.NOT_THERE, "", "a word that is asked for as text"),
    Intended(*local.UNKNOWN_SELECTOR, "", "filters are looked at before what they choose from"),
    Intended(*local.NO_JSON, "the words of JSON errors"),
    Intended(*local.ENTRY, "configuration entries"),
    Intended("OPTIONS", "/v1/query/x/execute", "", "OPTIONS is about methods"),
]


class Received:
    """Bytes that were received, as http.client reads them."""

    def __init__(self, received):
        self.received = received

    def makefile(self, _mode):
        return io.BytesIO(self.received)


class Server:
    """One of the two, and how it numbers what it does."""

    def __init__(self, agent, may_reset):
        self.agent, self.may_reset = agent, may_reset

    def exchange(self, method, target, body=None, headers=None):
        """Sends a request as it is, byte by byte."""
        target = self.fill_in(target)
        if isinstance(body, str):
            body = self.sessions_in(body)
        content = body.encode() if isinstance(body, str) else body
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.agent.ip}:8500", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if content is not None:
            lines.append(f"Content-Length: {len(content)}")
        request = "\r\n".join([*lines, "", ""]).encode() + (content or b"")
        with socket.create_connection((self.agent.ip, 8500), timeout=30) as connection:
            received = b""
            try:
                connection.sendall(request)
                while chunk := connection.recv(1 << 16):
                    received += chunk
            except ConnectionError as error:
                # Consul does this to who sends too much; a client may lose the answer.
                check(self.may_reset, f"{method} {target:.80}: {error}")
        if not received:
            return "closed without an answer", {}, b""
        answer = http.client.HTTPResponse(Received(received), method=method)
        answer.begin()
        return answer.status, answer.headers, answer.read()

    def fill_in(self, target):
        def modify(match):
            return str(json.loads(self.exchange("GET", f"/v1/kv/{match[1]}")[2])[0]["ModifyIndex"])

        target = target.replace("{ip}", self.agent.ip)

        def index(match):
            return self.exchange("GET", f"/v1/kv/{match[1]}")[1]["X-Consul-Index"]

        target = re.sub(r"\{modify:([^}]*)\}", modify, target)
        target = re.sub(r"\{index:([^}]*)\}", index, target)

        def prepared(match):
            found = json.loads(self.exchange("GET", "/v1/query")[2])
            return next(query["ID"] for query in found if query["Name"] == match[1])

        target = self.sessions_in(re.sub(r"\{prepared:([^}]*)\}", prepared, target))

        def content_hash(match):
            return self.exchange("GET", f"/v1/agent/service/{match[1]}")[1]["X-Consul-Contenthash"]

        return re.sub(r"\{hash:([^}]*)\}", content_hash, target)

    def sessions_in(self, text):
        def session(match):
            found = json.loads(self.exchange("GET", "/v1/session/list")[2])
            return next((one["ID"] for one in found if one["Name"] == match[1]), f"no session {match[1]}")

        return re.sub(r"\{session:([^}]*)\}", session, text)

    def answer(self, request):
        """What it answers, in a form that can be compared, but for the numbers."""
        status, headers, body = self.exchange(*request)
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        text = body.decode("utf-8", "backslashreplace").replace(self.agent.ip, "ADDRESS")
        text = UUID.sub("UUID", text.replace(f'"{self.agent.name}"', '"NODE"'))
        text = HASH.sub(r'\1"HASH"', text)
        kept = {name: headers[name].replace(self.agent.ip, "ADDRESS") for name in HEADERS if name in headers}
        return {"status": status, **kept, "body": text}


UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HASH = re.compile(r'("ContentHash":\s*)"[0-9a-f]+"')
NUMBER = re.compile(r'((?:Create|Modify)Index\\?":\s*|modify index )(\d+)')


class Numbers:
    """Tells whether two servers number in the same way: number A of one goes with number B of the other, and in the same order."""

    def __init__(self):
        self.pairs = {(0, 0)}

    def same(self, one, other):
        one, other = int(one), int(other)
        fits = all((one > a) == (other > b) and (one < a) == (other < b) for a, b in self.pairs)
        if fits:
            self.pairs.add((one, other))
        return fits


# Here answers have indexes of their own, which move only when the answer does; Consul's move with the whole table.
FINER = re.compile(r"/v1/(catalog|health)/")


def differences(numbers, target, ours, theirs):
    """Which parts of two answers differ."""
    found = []
    for part in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(part), theirs.get(part)
        if part == "X-Consul-Index" and one and other:
            if not FINER.match(target) and not numbers.same(one, other):
                found.append(part)
        elif part == "body":
            one_numbers, other_numbers = (NUMBER.findall(text) for text in (one, other))
            if NUMBER.sub(r"\1N", one) != NUMBER.sub(r"\1N", other):
                found.append(part)
            elif not all(numbers.same(a[1], b[1]) for a, b in zip(one_numbers, other_numbers)):
                found.append("indexes")
        elif one != other:
            found.append(part)
    return found


def intended(request):
    """The entry of INTENDED for a request, if there is one."""
    method, target, body = (*request, None)[:3]
    for entry in INTENDED:
        if (entry.method, entry.target, entry.body) == (method, target, body or ""):
            return entry
    return None


def show(verdict, topic, request, parts, answers):
    ours, theirs = answers
    print(f"{verdict}: {topic}: {' '.join(str(part) for part in request)[:150]}")
    for part in parts:
        part = "body" if part == "indexes" else part
        print(f"    {part}: {ours.get(part)!r:.300}\n    Consul: {theirs.get(part)!r:.300}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="show what differs on purpose too")
    arguments = parser.parse_args()
    real = consul()
    if real is None:
        print("comparison: not made, there is no consul binary; put it in PATH or name it in $CONSUL")
        return 0
    count, same, seen, wrong = 0, 0, set(), 0
    with Scene() as scene:
        ours = Server(scene.single(lictor(), 1), may_reset=False)
        theirs = Server(scene.single(real, 2), may_reset=True)
        numbers = Numbers()
        for topic, requests in CORPUS.items():
            for request in requests:
                count += 1
                answers = ours.answer(request), theirs.answer(request)
                parts = differences(numbers, request[1], *answers)
                if not parts:
                    same += 1
                    continue
                entry = intended(request)
                if entry is None:
                    wrong += 1
                else:
                    seen.add(entry)
                if entry is None or arguments.all:
                    show(entry.why if entry else "DIFFERS", topic, request, parts, answers)
    idle = [entry for entry in INTENDED if entry not in seen]
    for entry in idle:
        print(f"no longer differs: {entry.why}")
    print(f"comparison: {count} requests, {same} the same, {count - same - wrong} differ on purpose, {wrong} differ without")
    return 1 if wrong or idle else 0


if __name__ == "__main__":
    sys.exit(main())
