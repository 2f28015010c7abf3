#!/usr/bin/env python3
"""The commands across: Consul's own command line against Lictor, and Lictor's against Consul.

Every command runs four ways, with either binary against either agent, and what is printed and the exit code must be the same:
for the kv commands all four, for those about the agent and its cluster the two that asked the same agent, since what they print
is different for each. Without the real binary (in PATH, or named by $CONSUL), only `lictor` against Lictor is run.
"""

import json
import os
import re
import subprocess
import sys

from harness import PATIENCE, Scene, check, consul, equal, eventually, lictor

# Words that follow `kv`, and standard input.
KV = [
    (["put", "app/a", "one"], None),
    (["put", "-flags=42", "app/b", "two"], None),
    (["put", "app/empty"], None),
    (["put", "-base64", "app/raw", "AAH/"], None),
    (["put", "app/stdin", "-"], "from standard input"),
    (["put", "-cas", "-modify-index=1", "app/a", "x"], None),
    (["put", "-cas", "app/a", "x"], None),
    (["put", "/app/lead", "x"], None),
    (["put"], None),
    (["put", "a", "b", "c"], None),
    (["put", "-acquire", "app/a", "x"], None),
    (["put", "-acquire", "-session=00000000-0000-4000-8000-000000000000", "app/a", "x"], None),
    (["put", "-release", "-session=00000000-0000-4000-8000-000000000000", "app/a", "x"], None),
    (["get", "app/a"], None),
    (["get", "/app/a"], None),
    (["get", "-base64", "app/raw"], None),
    (["get", "app/empty"], None),
    (["get", "-detailed", "app/b"], None),
    (["get", "-detailed", "-recurse", "app/"], None),
    (["get", "-recurse", "app/"], None),
    (["get", "-recurse", "nothing/"], None),
    (["get", "-keys", "app/"], None),
    (["get", "-keys", "-separator=", ""], None),
    (["get", "-keys"], None),
    (["get", "-stale", "app/a"], None),
    (["get", "nothing"], None),
    (["get"], None),
    (["get", "a", "b"], None),
    (["export", "app/"], None),
    (["export"], None),
    (["export", "nothing"], None),
    (["import", "-"], '[{"key": "imp/a", "flags": 7, "value": "eA=="}, {"key": "imp/b", "flags": 0, "value": ""}]'),
    (["import", "["], None),
    (["import", "-"], "[]"),
    (["import"], None),
    (["get", "-detailed", "imp/a"], None),
    (["delete", "app/a"], None),
    (["delete", "app/a"], None),
    (["delete", "-cas", "-modify-index=1", "app/b"], None),
    (["delete", "-cas", "-recurse", "app/b"], None),
    (["delete", "-recurse", "app/"], None),
    (["delete", "-recurse", ""], None),
    (["delete"], None),
    (["export", ""], None),
]

# Files that commands are given, in a directory FILES.
FILES = {
    "web.json": {"service": {"name": "web", "port": 80, "tags": ["b", "a"], "check": {"id": "c1", "ttl": "10s"}}},
    "dbs.json": {"services": [{"name": "db", "id": "db1"}, {"name": "db", "id": "db2"}]},
    "check.json": {"check": {"name": "x", "ttl": "5s"}},
    "bogus.json": {"service": {"name": "x", "check": {"script": "a"}}},
    "types.json": {"service": {"name": 5}},
    "ttl.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "service": {"name": "x", "check": {"ttl": "10"}}},
    "unnamed.json": {"service": {"id": "q"}},
    "extra.json": {"node_name": "a", "service": {"name": "extra", "id": "extra1"}},
    "text.txt": {},
    "valid.json": {
        **{"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "service": {"name": "web", "weights": {"passing": 1}}},
        **{"telemetry": {"prefix_filter": ["bad", "+a", ""]}, "dns_config": {"node_ttl": "5s", "soa": {"min_ttl": 1}}},
    },
    "meta.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "service": {"name": "x", "meta": {"a.b": "c"}}},
    "weights.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "service": {"name": "x", "weights": {"passing": 0}}},
    "proxy.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "service": {"name": "x", "kind": "connect-proxy"}},
    "limit.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "dns_config": {"udp_answer_limit": -1}},
    "output.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "check_output_max_size": 0},
    "interval.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "check_update_interval": "x"},
    "twice.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "ports": {"dns": 8500}},
    "socket.json": {"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "addresses": {"dns": "unix:///x"}},
}

# Commands about files alone: all binaries must agree.
VALIDATE = [
    ["validate"],
    ["validate", "FILES/none.json"],
    ["validate", "-quiet", "FILES/valid.json"],
    *(["validate", f"FILES/{name}"] for name in FILES),
]

# Commands that ask an agent about itself and its cluster; NODE and IP are its own.
CLUSTER = [
    ["members"],
    ["members", "-detailed"],
    ["members", "-wan"],
    ["members", "-wan", "-detailed"],
    ["members", "-status=^alive$"],
    ["members", "-status=left"],
    ["members", "-status=("],
    ["members", "-segment=x"],
    ["members", "-wan", "-segment=x"],
    ["join"],
    ["join", "IP"],
    ["join", "IP", "IP"],
    ["join", "-wan", "IP"],
    ["join", "127.0.0.1:1"],
    ["join", "127.0.0.1:2", "IP"],
    ["force-leave"],
    ["force-leave", "nobody"],
    ["force-leave", "-prune", "nobody"],
    ["force-leave", "a", "b"],
    ["event"],
    ["event", "-name=deploy"],
    ["event", "-name=deploy", "payload"],
    ["event", "-name=deploy", "-node=NODE", "-service=web", "-tag=v1", "payload"],
    ["event", "-name=deploy", "-node=("],
    ["event", "-name=deploy", "-service=("],
    ["event", "-name=deploy", "-service=web", "-tag=("],
    ["event", "-name=deploy", "-tag=v1"],
    ["event", "-name=deploy", "a", "b"],
    ["info"],
    ["rtt"],
    ["rtt", "NODE"],
    ["rtt", "NODE", "NODE"],
    ["rtt", "nobody"],
    ["rtt", "-wan", "NODE"],
    ["rtt", "-wan", "NODE.dc1", "NODE.dc1"],
    ["operator"],
    ["operator", "bogus"],
    ["operator", "raft"],
    ["operator", "raft", "list-peers"],
    ["operator", "raft", "list-peers", "-stale"],
    ["operator", "raft", "list-peers", "-datacenter=nowhere"],
    ["operator", "raft", "remove-peer"],
    ["operator", "raft", "remove-peer", "-id=nobody"],
    ["operator", "raft", "remove-peer", "-address=IP:1"],
    ["operator", "raft", "remove-peer", "-id=nobody", "-address=IP:1"],
    ["operator", "autopilot"],
    ["operator", "autopilot", "set-config", "-cleanup-dead-servers=false", "-last-contact-threshold=300ms"],
    ["operator", "autopilot", "get-config"],
    ["operator", "autopilot", "set-config", "-min-quorum=3", "-max-trailing-logs=500", "-server-stabilization-time=1h30m"],
    ["operator", "autopilot", "get-config"],
    ["operator", "autopilot", "set-config", "-last-contact-threshold=soon"],
    ["operator", "autopilot", "get-config", "-datacenter=nowhere"],
    [
        *("operator", "autopilot", "set-config", "-cleanup-dead-servers", "-min-quorum=0", "-max-trailing-logs=250"),
        *("-last-contact-threshold=200ms", "-server-stabilization-time=10s"),
    ],
    ["operator", "autopilot", "get-config"],
    ["catalog"],
    ["catalog", "datacenters"],
    ["catalog", "datacenters", "x"],
    ["catalog", "nodes"],
    ["catalog", "nodes", "-detailed"],
    ["catalog", "nodes", "-service=ext"],
    ["catalog", "nodes", "-service=ext", "-detailed"],
    ["catalog", "nodes", "-service=nope"],
    ["catalog", "nodes", "-node-meta=a=2", "-node-meta=z=1"],
    ["catalog", "nodes", "-node-meta=a=3"],
    ["catalog", "nodes", "-node-meta=a"],
    ["catalog", "nodes", "-near=_agent"],
    ["catalog", "nodes", "-near=nobody"],
    ["catalog", "nodes", '-filter=Node == "out"'],
    ["catalog", "nodes", '-filter=Bogus == "out"'],
    ["catalog", "nodes", "-datacenter=nowhere"],
    ["catalog", "nodes", "x"],
    ["catalog", "services"],
    ["catalog", "services", "-tags"],
    ["catalog", "services", "-node=out"],
    ["catalog", "services", "-node=out", "-tags"],
    ["catalog", "services", "-node=nobody"],
    ["catalog", "services", "-node-meta=a=2", "-tags"],
    ["catalog", "services", "-node-meta=a=3"],
    ["catalog", "services", "-datacenter=nowhere"],
    ["catalog", "services", "x"],
    ["services"],
    ["services", "bogus"],
    ["services", "register"],
    ["services", "register", "-id=x"],
    ["services", "register", "-name=x", "FILES/web.json"],
    ["services", "register", "-name=x", "-meta=y"],
    ["services", "register", "-name=x", "-meta=a.b=y"],
    ["services", "register", "-name=x", "-tagged-address=lan=1.2.3.4"],
    ["services", "register", "-name=x", "-tagged-address=lan=::1:5"],
    ["services", "register", "-name=x", "-tagged-address=lan=a:b"],
    [
        *("services", "register", "-name=hand", "-id=h1", "-port=5", "-address=1.2.3.4", "-tag=a", "-tag=b", "-meta=k=v"),
        *("-kind=foo", "-tagged-address=lan=1.1.1.1:5"),
    ],
    ["services", "register", "FILES/web.json", "FILES/dbs.json"],
    ["services", "register", "-tag=no", "FILES/extra.json"],
    ["services", "register", "FILES/check.json"],
    ["services", "register", "FILES/text.txt"],
    ["services", "register", "FILES/bogus.json"],
    ["services", "register", "FILES/types.json"],
    ["services", "register", "FILES/ttl.json"],
    ["services", "register", "FILES/unnamed.json"],
    ["services", "register", "FILES/none.json"],
    ["maint"],
    ["maint", "-enable", "-reason=disk"],
    ["maint", "-enable"],
    ["maint"],
    ["maint", "-disable"],
    ["maint", "-service=web", "-enable"],
    ["maint"],
    ["maint", "-service=web", "-disable"],
    ["maint", "-service=nope", "-enable"],
    ["maint", "-service=nope", "-disable"],
    ["maint", "-service=web"],
    ["maint", "-reason=x"],
    ["maint", "-disable", "-reason=x"],
    ["maint", "-enable", "-disable"],
    ["lock"],
    ["lock", "a"],
    ["lock", "-n=0", "a", "true"],
    ["lock", "-monitor-retry=-1", "a", "true"],
    ["lock", "-try=-1s", "a", "true"],
    ["lock", "-timeout=x", "a", "true"],
    ["lock", "-verbose", "/a/b", "echo $CONSUL_LOCK_HELD"],
    ["lock", "-verbose", "-n=2", "b", "true"],
    ["lock", "a", "exit 7"],
    ["lock", "-child-exit-code", "a", "kill -9 $$"],
    ["lock", "-child-exit-code", "-shell=false", "a", "no-such-program"],
    ["watch"],
    ["watch", "-type=bogus"],
    ["watch", "-type=connect_roots"],
    ["watch", "-type=key"],
    ["watch", "-type=key", "-key=nothing"],
    ["watch", "-type=keyprefix", "-prefix=nothing/"],
    ["watch", "-type=nodes", "-key=x"],
    ["watch", "-type=services"],
    ["watch", "-type=service"],
    ["watch", "-type=service", "-service=web"],
    ["watch", "-type=service", "-service=ext", "-tag=t1", "-tag=t2"],
    ["watch", "-type=service", "-service=web", "-passingonly=x"],
    ["watch", "-type=checks", "-service=web"],
    ["watch", "-type=checks", "-service=a", "-state=any"],
    ["watch", "-type=event", "-name=nothing"],
    ["watch", "-type=key", "-key=nothing", "cat; exit 3"],
    ["services", "deregister"],
    ["services", "deregister", "-id="],
    ["services", "deregister", "-id=x", "FILES/web.json"],
    ["services", "deregister", "FILES/web.json", "FILES/dbs.json"],
    ["services", "deregister", "FILES/extra.json"],
    ["services", "deregister", "FILES/none.json"],
    ["services", "deregister", "-id=h1"],
    ["services", "deregister", "-id=nope"],
    ["reload"],
    ["monitor", "-log-level=nope"],
]

# A node that no agent runs on.
OUTSIDE = {
    **{"Node": "out", "Address": "10.1.0.1", "NodeMeta": {"z": "1", "a": "2"}},
    **{"Service": {"ID": "e1", "Service": "ext", "Tags": ["t2", "t1"]}},
}

INDEX = re.compile(r"((?:Create|Modify)Index(?: +|\": ))\d+")
# What changes from one moment to the next: ids of events, estimates, counters and clocks.
MOMENTS = [
    (re.compile(r"(Event ID: )[0-9a-f-]{36}"), r"\1ID"),
    (re.compile(r"(rtt: )[0-9.]+( ms)"), r"\1N\2"),
    (re.compile(r"^(\t\w+ = )[0-9.a-z]+$", re.MULTILINE), r"\1N"),
]

# The lines of a JSON list of texts.
TEXTS = re.compile(r'(?<=\[\n)\s+"[^"]*"(?:,\n\s+"[^"]*")*')


def run(binary, agent, words, text=""):
    files = os.path.join(agent.scene.dir, "files")
    words = [word.replace("NODE", agent.name).replace("IP", agent.ip).replace("FILES", files) for word in words]
    done = subprocess.run(
        [binary, *words],
        input=text or "",
        capture_output=True,
        errors="backslashreplace",
        timeout=60,
        env={"PATH": os.environ.get("PATH", ""), "CONSUL_HTTP_ADDR": f"{agent.ip}:8500"},
    )
    printed = INDEX.sub(r"\1N", done.stdout)
    for moment, instead in MOMENTS:
        printed = moment.sub(instead, printed)
    if "-type=services" in words:
        # Consul has a service's tags in any order.
        printed = TEXTS.sub(lambda texts: "\n".join(sorted(line.rstrip(",") for line in texts[0].split("\n"))), printed)
    return done.returncode, printed, neutral(done.stderr)


def neutral(text):
    """An error without the product's name, and without the usage that may follow it, which is the product's own."""
    text = text.replace("Lictor", "Consul").replace("lictor", "consul")
    # Where more is to be read about a warning.
    text = re.sub(r", see https://\S+", "", text)
    # Which values there are, and what is wrong with a duration, only Lictor says.
    text = re.sub(r"; must be one of [\w, ]+|; it is no snapshot", "", text)
    text = re.sub(r"(invalid value .* for flag -[\w-]+): time: .*", r"\1: parse error", text)
    return re.split(r"\n*Usage:|\nFor additional help", text)[0].rstrip()


class Comparison:
    """Runs commands, and notes what came out otherwise than the first time."""

    def __init__(self):
        self.runs, self.wanted, self.differences = 0, {}, []

    def run(self, key, command, binary, agent, words, text=""):
        found = run(binary, agent, words, text)
        self.runs += 1
        wanted = self.wanted.setdefault(key, found)
        if found != wanted:
            self.differences.append(f"{command} {' '.join(words)} at {agent.name}: {found}, and not {wanted}")


def compare(scene, binaries):
    comparison = Comparison()
    files = os.path.join(scene.dir, "files")
    os.mkdir(files)
    for name, content in FILES.items():
        with open(os.path.join(files, name), "w", encoding="utf-8") as file:
            json.dump(content, file)
    agents = {name: scene.single(binary, 1 + at) for at, (name, binary) in enumerate(binaries.items())}
    for agent in agents.values():
        # A node that has just started has no coordinate yet.
        eventually(
            f"{agent.name} has a coordinate",
            lambda agent=agent: json.loads(agent.call("GET", "/v1/coordinate/nodes")[2]),
        )
        status, _, answer = agent.call("PUT", "/v1/catalog/register", json.dumps(OUTSIDE).encode())
        equal((status, answer.strip()), (200, b"true"), f"a node from outside is registered at {agent.name}")
    for command, binary in reversed(binaries.items()):
        for at, words in enumerate(VALIDATE):
            comparison.run(("validate", at), command, binary, next(iter(agents.values())), words)
        for name, agent in reversed(agents.items()):
            # With a store of its own each time: the last command empties it.
            for at, (words, text) in enumerate(KV):
                comparison.run(("kv", at), command, binary, agent, ["kv", *words], text)
            for at, words in enumerate(CLUSTER):
                comparison.run((name, at), command, binary, agent, words)
            comparison.run((name, "leave"), command, binary, agent, ["leave"])
            equal(agent.process.wait(PATIENCE), 0, f"the exit code of {agent.name} after it left")
            agent.start()
            agent.wait_leader()
    return comparison


def main():
    binaries = {"lictor": lictor()}
    if consul() is not None:
        binaries["consul"] = consul()
    with Scene() as scene:
        comparison = compare(scene, binaries)
    if "consul" not in binaries:
        equal(comparison.wanted["kv", 0], (0, "Success! Data written to: app/a\n", ""), "lictor kv put")
        equal(comparison.wanted["lictor", "leave"], (0, "Graceful leave complete\n", ""), "lictor leave")
    for difference in comparison.differences:
        print(f"DIFFERS: {difference}")
    check(not comparison.differences, f"{len(comparison.differences)} of {comparison.runs} commands differ")
    commands = len(KV) + len(CLUSTER) + len(VALIDATE) + 1
    print(f"commands: {comparison.runs} runs of {commands} commands with {' and '.join(binaries)}, all the same")


if __name__ == "__main__":
    sys.exit(main())
