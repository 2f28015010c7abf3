#!/usr/bin/env python3
"""The watches of a configuration: the same files for Lictor and for Consul, and what programs and addresses are told.

Both agents run a watch of every type. After each change each watch must have told the same last, but for what is different for every
agent; and what is refused must be refused for the same reason. Without the real binary (in PATH, or named by $CONSUL) nothing is run.
"""

import http.server
import json
import os
import subprocess
import sys
import threading

from harness import PATIENCE, Failed, NotYet, Scene, check, consul, equal, eventually, lictor

# Each with a name, which its handler gets.
PROGRAMS = {
    "key": {"type": "key", "key": "cfg/a"},
    "prefix": {"type": "keyprefix", "prefix": "cfg/"},
    "stale": {"type": "keyprefix", "prefix": "/cfg/", "stale": True},
    "services": {"type": "services"},
    "service": {"type": "service", "service": "web", "tag": ["v1", "v2"], "passingonly": True},
    "one tag": {"type": "service", "service": "web", "tag": "v1"},
    "checks": {"type": "checks", "service": "web"},
    "critical": {"type": "checks", "state": "critical"},
    "event": {"type": "event", "name": "deploy"},
    "local": {"type": "agent_service", "service_id": "api"},
}

WEB = {
    **{"Name": "web", "Port": 80, "Tags": ["v1", "v2"], "Meta": {"a": "<b>"}, "Weights": {"Passing": 3, "Warning": 2}},
    "Check": {"CheckID": "alive", "TTL": "1h"},
}

# What is done, and the watches that are told of it.
STEPS = [
    ("PUT", "/v1/kv/cfg/a", b"one", ["key", "prefix", "stale"]),
    ("PUT", "/v1/kv/cfg/b?flags=7", b"", ["prefix", "stale"]),
    ("PUT", "/v1/kv/cfg/a", b"two & <three>", ["key", "prefix", "stale"]),
    ("DELETE", "/v1/kv/cfg/a", None, ["key", "prefix", "stale"]),
    ("DELETE", "/v1/kv/cfg/?recurse", None, ["prefix", "stale"]),
    ("PUT", "/v1/agent/service/register", json.dumps(WEB).encode(), ["services", "one tag", "checks", "critical"]),
    ("PUT", "/v1/agent/check/pass/alive?note=well", None, ["service", "one tag", "checks", "critical"]),
    ("PUT", "/v1/agent/service/register", b'{"ID": "api", "Name": "api", "Port": 99}', ["services", "local"]),
    ("PUT", "/v1/event/fire/deploy", b"a", ["event"]),
    ("PUT", "/v1/event/fire/deploy", b"b", ["event"]),
    ("PUT", "/v1/agent/service/deregister/web", None, ["services", "service", "one tag", "checks"]),
]

# What is no watch, and why: the end of what Consul says.
ARGS = {"args": ["true"]}
HTTP = {"type": "nodes", "handler_type": "http"}
REFUSED = [
    ({}, "Watch type must be specified"),
    ({"type": "bogus", **ARGS}, "Unsupported watch type: bogus"),
    ({"type": "key", **ARGS}, "Must specify a single key to watch"),
    ({"type": "key", "key": 5, **ARGS}, "Expecting key to be a string"),
    ({"type": "keyprefix", **ARGS}, "Must specify a single prefix to watch"),
    ({"type": "service", **ARGS}, "Must specify a single service to watch"),
    ({"type": "service", "service": "a", "passingonly": "x", **ARGS}, "Expecting passingonly to be a boolean"),
    ({"type": "service", "service": "a", "tag": 5, **ARGS}, "Expecting tag to be a string or []string"),
    ({"type": "service", "service": "a", "tag": ["x", 5], **ARGS}, "Index 1 of tag expected to be string"),
    ({"type": "checks", "service": "a", "state": "any", **ARGS}, "Cannot specify service and state"),
    ({"type": "nodes", "stale": "x", **ARGS}, "Expecting stale to be a boolean"),
    ({"type": "nodes", "datacenter": 5, **ARGS}, "Expecting datacenter to be a string"),
    ({"type": "nodes", "token": 5, **ARGS}, "Expecting token to be a string"),
    ({"type": "nodes", "zoo": 5, **ARGS}, "Invalid parameters: [zoo]"),
    ({"type": "connect_leaf", **ARGS}, "Watch type connect_leaf is not allowed in agent config"),
    ({"type": "nodes"}, "Must define a watch handler"),
    ({"type": "nodes", "handler": 5}, "Watch handler must be a string"),
    ({"type": "nodes", "args": [5]}, "Watch args must be a list of strings"),
    ({"type": "nodes", "handler": "true", **ARGS}, "Only one watch handler allowed"),
    ({"type": "nodes", "handler_type": "bogus", **ARGS}, "Handler type 'bogus' not recognized"),
    (HTTP, "Handler type 'http' requires 'http_handler_config' to be set"),
    ({**HTTP, "http_handler_config": {}}, "Failed to parse 'http_handler_config': Requires 'path' to be set"),
    ({**HTTP, "http_handler_config": {"path": "http://x"}, **ARGS}, "Only one watch handler allowed"),
    (
        {**HTTP, "http_handler_config": {"path": "http://x", "timeout": "bogus"}},
        'Failed to parse \'http_handler_config\': Failed to parse timeout: time: invalid duration "bogus"',
    ),
    (
        {**HTTP, "http_handler_config": {"path": "http://x", "header": {"a": "b"}}},
        "'header[a]': source data must be an array or slice, got string",
    ),
]

HANDLER = """#!/bin/sh
# What one program is told: a file for each, with its version in the first line.
n=$(ls "$1" | wc -l)
{ echo "$CONSUL_INDEX"; cat; } > "$1.part"
mv "$1.part" "$1/$n"
"""


class Hook(http.server.BaseHTTPRequestHandler):
    """An address that is told of changes; `server.heard` has what it was told, by path."""

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        names = ("Content-Type", "X-Team")
        headers = {name: self.headers.get_all(name) for name in names}
        self.server.heard.setdefault(self.path, []).append((int(self.headers["X-Consul-Index"]), headers, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Watched:
    """An agent with all watches, and what they have told."""

    def __init__(self, scene, binary, host, hook):
        self.dir = os.path.join(scene.dir, f"told{host}")
        self.hook, self.path = hook, f"/n{host}"
        program = os.path.join(scene.dir, "handler")
        watches = []
        for name, watch in PROGRAMS.items():
            place = os.path.join(self.dir, name)
            os.makedirs(place)
            watches.append({**watch, "args": [program, place]})
        url = f"http://127.0.0.1:{hook.server_address[1]}{self.path}"
        config = {"path": url, "method": "PUT", "header": {"X-Team": ["a", "b"]}}
        watches.append({"type": "key", "key": "cfg/a", "handler_type": "http", "http_handler_config": config})
        # Those of several files count together.
        for at, part in enumerate((watches[:3], watches[3:])):
            with open(os.path.join(scene.dir, f"watches{host}-{at}.json"), "w", encoding="utf-8") as file:
                json.dump({"watches": part}, file)
        files = [os.path.join(scene.dir, f"watches{host}-{at}.json") for at in range(2)]
        self.agent = scene.agent(binary, host, ["-dev", "-config-file", files[0], "-config-file", files[1]])
        self.agent.wait_leader()

    def told(self, name):
        """All that one watch has told: versions, and texts."""
        place = os.path.join(self.dir, name)
        found = []
        for at in range(len(os.listdir(place))):
            with open(os.path.join(place, str(at)), encoding="utf-8") as file:
                index, text = file.read().split("\n", 1)
            found.append((int(index), text))
        return found

    def last(self, name):
        """What it has told last, without what every agent has of its own; NotYet, if nothing."""
        told = self.told(name)
        if not told:
            raise NotYet(f"{self.agent.name}: {name} has told nothing")
        return self.neutral(told[-1][1])

    def neutral(self, text):
        check(text.endswith("\n") and text.count("\n") == 1, f"one line: {text!r}")
        return json.dumps(self.without(json.loads(text)))

    def without(self, value):
        """The same, in the same order, with indexes, ids, hashes and addresses out of it."""
        if isinstance(value, list):
            return [self.without(item) for item in value]
        if isinstance(value, dict) and value and all(isinstance(tags, list) for tags in value.values()):
            # The tags of all services come in any order from Consul.
            return {name: sorted(tags) for name, tags in value.items()}
        if not isinstance(value, dict):
            return "NODE" if value == self.agent.name else "IP" if value == self.agent.ip else value
        aside = {"CreateIndex", "ModifyIndex", "LTime", "ContentHash", "TaggedAddresses"}
        aside |= {"ID", "Meta"} if "Datacenter" in value else {"ID"} if "LTime" in value else set()
        return {key: "..." if key in aside else self.without(item) for key, item in value.items()}


def compare(scene, hook):
    ours, theirs = (Watched(scene, binary, host, hook) for host, binary in ((1, lictor()), (2, consul())))

    def agree(name, before):
        for watched in (ours, theirs):
            if len(watched.told(name)) <= before.get((watched, name), 0):
                raise NotYet(f"{watched.agent.name} has told nothing more")
        found, wanted = ours.last(name), theirs.last(name)
        if found != wanted:
            raise NotYet(f"{found}, and Consul: {wanted}")
        return True

    def same(names, before):
        for name in names:
            eventually(f"both tell the same of {name!r}", lambda: agree(name, before))

    # That of a service that is not there yet has failed, and is asked again by and by.
    same([name for name in PROGRAMS if name != "local"], {})
    for method, path, body, names in STEPS:
        before = {(watched, name): len(watched.told(name)) for watched in (ours, theirs) for name in names}
        for watched in (ours, theirs):
            status, _, answer = watched.agent.call(method, path, body)
            equal(status, 200, f"{method} {path}: {answer!r}")
        same(names, before)

    # Of a key every single change was told, with its version.
    for watched in (ours, theirs):
        told = watched.told("key")
        equal([watched.neutral(text) for _, text in told], [theirs.neutral(text) for _, text in theirs.told("key")], "key")
        for index, text in told:
            entry = json.loads(text)
            check(entry is None or entry["ModifyIndex"] == index, f"{watched.agent.name}: {index} of {text}")
        events = [json.loads(text) for _, text in watched.told("event")]
        equal([len(told) for told in events], [0, 1, 1], f"{watched.agent.name}: events")
        check(all(index == 0 for index, _ in watched.told("local")), "what has a hash has no index")
        # The address was told the same as the program.
        heard = eventually("the address has heard all", lambda: hook.heard.get(watched.path, [])[: len(told)])
        equal([(index, body.decode()) for index, _, body in heard], told, f"{watched.agent.name}: address")
        for _, headers, _ in heard:
            equal(headers, {"Content-Type": ["application/json"], "X-Team": ["a", "b"]}, watched.agent.name)
    return len(STEPS)


def refuse(scene):
    """Consul finds out when it starts, Lictor when it reads."""
    path = os.path.join(scene.dir, "refused.json")
    for watch, why in REFUSED:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"data_dir": os.path.join(scene.dir, "none"), "bind_addr": scene.ip(3), "watches": [watch]}, file)
        validate = [lictor(), "validate", path]
        ours = subprocess.run(validate, capture_output=True, text=True, timeout=PATIENCE, check=False)
        equal(ours.returncode, 1, f"lictor validate: {watch}")
        check(ours.stderr.endswith(f"{why}\n"), f"lictor validate: {watch}: {ours.stderr!r}, not {why!r}")
        agent = [consul(), "agent", "-dev", "-bind", scene.ip(3), "-client", scene.ip(3), "-config-file", path]
        theirs = subprocess.run(agent, capture_output=True, text=True, timeout=PATIENCE, check=False)
        equal(theirs.returncode, 1, f"consul agent: {watch}")
        check(f'{why}"\n' in theirs.stdout + theirs.stderr, f"consul agent: {watch}: {theirs.stdout[-500:]!r}, not {why!r}")
    return len(REFUSED)


def main():
    if consul() is None:
        print("watches: no consul in PATH: nothing was compared")
        return 0
    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    hook.heard = {}
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    try:
        with Scene() as scene:
            program = os.path.join(scene.dir, "handler")
            with open(program, "w", encoding="utf-8") as file:
                file.write(HANDLER)
            os.chmod(program, 0o755)
            steps, refused = compare(scene, hook), refuse(scene)
    except Failed as error:
        print(f"watches: FAILED: {error}")
        return 1
    print(f"watches: {len(PROGRAMS) + 1} watches agree after each of {steps} changes; {refused} refusals agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
