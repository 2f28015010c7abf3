#!/usr/bin/env python3
"""Commands on many machines: `lictor exec` and `consul exec`, each with agents of either kind, in their own data center and from another one.

What is printed and the exit code must be the same, in whatever order lines of one answer come: Consul prints them in any. Without the
real binary (in PATH, or named by $CONSUL), only Lictor is run, and what must come out is written down here.
"""

import json
import os
import re
import subprocess
import sys

from commands import neutral
from harness import PATIENCE, Scene, check, consul, equal, eventually, lictor

WAIT = "-wait=2s"

# What follows `exec`, standard input, and what Lictor prints and exits with, but for the lines that say what is done.
ENABLED = [
    ([WAIT, "echo one; echo two >&2"], None, ["    NODE:", "    NODE: one", "    NODE: two", "==> NODE: finished with exit code 0", "1 / 1"], 0),
    ([WAIT, "echo", "a", "$((40 + 2));", "exit 3"], None, ["    NODE:", "    NODE: a 42", "==> NODE: finished with exit code 3", "1 / 1"], 2),
    ([WAIT, "kill -9 $$"], None, ["==> NODE: finished with exit code -1", "1 / 1"], 2),
    ([WAIT, "-shell=false", "printf", "%s|", "a b", "$HOME"], None, ["    NODE: a b|$HOME|", "==> NODE: finished with exit code 0", "1 / 1"], 0),
    ([WAIT, "-"], "#!/bin/sh\necho script; exit 1\n", ["    NODE:", "    NODE: script", "==> NODE: finished with exit code 1", "1 / 1"], 2),
    ([WAIT, "-"], "echo no shebang\n", ["    NODE:", "    NODE: no shebang", "==> NODE: finished with exit code 0", "1 / 1"], 0),
    ([WAIT, "-shell=false", "/no/such"], None, ["WHY", "==> NODE: finished with exit code 255", "1 / 1"], 2),
    ([WAIT, "-verbose", "sleep 3"], None, ["==> NODE: acknowledged", "==> NODE: finished with exit code 0", "==> NODE: heartbeat received", "1 / 1"], 0),
    ([WAIT, "-node=^NODE$", "-service=^web", "-tag=v2", "true"], None, ["==> NODE: finished with exit code 0", "1 / 1"], 0),
    ([WAIT, "-prefix=a//b/", "true"], None, ["==> NODE: finished with exit code 0", "1 / 1"], 0),
    (["-wait=200ms", "-node=nobody", "true"], None, ["0 / 0"], 0),
    (["-wait=200ms", "-service=web", "-tag=v3", "true"], None, ["0 / 0"], 0),
]

# What is refused before anything is done: words, and what is said.
REFUSED = [
    ([], "Must specify a command to execute"),
    (["-"], "Must specify a command to execute"),
    (["-shell=false", "-"], "Cannot configure -shell=false when reading from stdin"),
    (["-node=(", "true"], "Failed to compile node filter regexp: error parsing regexp: missing closing ): `(`"),
    (["-service=[", "true"], "Failed to compile service filter regexp: error parsing regexp: missing closing ]: `[`"),
    (["-tag=v2", "true"], "Cannot provide tag filter without service filter."),
    (
        ["-datacenter=nowhere", "true"],
        "Failed to create session: Failed to find Consul server in remote datacenter: Unexpected response code: 500 (No path to datacenter)",
    ),
]

# What is said of the way.
ASIDE = re.compile(r"^(Created |Uploaded |Fired |Completed )")
# Why a program does not start, which Consul's agents keep to themselves.
WHY = {"lictor": ["    NODE:", "    NODE: fork/exec /no/such: no such file or directory"], "consul": []}
# And why nobody may have done anything, which Consul does not say.
NOBODY = "No agent has taken the command. "


def run(binary, agent, words, text=None):
    """The exit code, what is printed, sorted, and what is said beside it."""
    words = [word.replace("NODE", agent.name) for word in words]
    done = subprocess.run(
        [binary, "exec", *words],
        input=text or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"PATH": os.environ.get("PATH", ""), "CONSUL_HTTP_ADDR": f"{agent.ip}:8500"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def lines(text, node):
    """What is printed but for lines aside, in order; each line once, since signs of life come as often as they come."""
    found = {line.replace(f" {node}:", " NODE:") for line in text.splitlines()}
    found = sorted(line.removesuffix(" node(s) completed / acknowledged") for line in found)
    return [line for line in found if not ASIDE.match(line)]


def start(scene, binary, host, datacenter, enabled, others=()):
    path = os.path.join(scene.dir, f"exec{host}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"disable_remote_exec": not enabled, "service": {"name": "web-1", "tags": ["v2"]}}, file)
    arguments = ["-server", "-bootstrap-expect", "1", "-data-dir", os.path.join(scene.dir, f"data{host}")]
    arguments += ["-datacenter", datacenter, "-config-file", path]
    for other in others:
        arguments += ["-retry-join-wan", other.ip]
    agent = scene.agent(binary, host, arguments).wait_leader()

    def alive():
        checks = agent.get("/v1/health/state/passing")
        services = agent.get("/v1/catalog/services")
        return any(one["CheckID"] == "serfHealth" for one in checks) and "web-1" in services

    eventually(f"{agent.name} is in its catalog", alive)
    return agent


def nothing_left(agent):
    def look():
        status, _, keys = agent.call("GET", "/v1/kv/?keys")
        return (status == 404 or json.loads(keys) == []) and agent.get("/v1/session/list") == []

    eventually(f"nothing is left of the commands at {agent.name}", look)
    equal(agent.get("/v1/event/list"), [], f"clients of {agent.name} hear nothing of commands")


def compare(scene, binaries):
    """How many commands were run, and what was otherwise than it must be."""
    runs, differences = 0, []

    def expect(what, found, wanted):
        nonlocal runs
        runs += 1
        if found != wanted:
            differences.append(f"{what}: {found}, and not {wanted}")

    for at, (kind, server) in enumerate(binaries.items()):
        near = start(scene, server, 4 * at + 1, "dc1", True)
        far = start(scene, server, 4 * at + 2, "dc2", True, [near])
        closed = start(scene, server, 4 * at + 3, "dc1", False)
        eventually(f"{near.name} knows dc2", lambda near=near: "dc2" in near.get("/v1/catalog/datacenters"))
        equal(near.get("/v1/agent/self")["DebugConfig"]["DisableRemoteExec"], False, "the setting of one that takes commands")
        equal(closed.get("/v1/agent/self")["DebugConfig"]["DisableRemoteExec"], True, "the setting of one that does not")
        for name, command in binaries.items():
            for words, text, printed, code in ENABLED:
                what = f"{name} exec {' '.join(words)} at an agent of {kind}"
                found, out, _ = run(command, near, words, text)
                wanted = [line for line in printed if line != "WHY"] + (WHY[kind] if "WHY" in printed else [])
                expect(what, (found, lines(out, near.name)), (code, sorted(wanted)))
            for words, said in REFUSED:
                found, out, err = run(command, near, words)
                expect(f"{name} exec {' '.join(words)} at an agent of {kind}", (found, out, neutral(err)), (1, "", said))
            found, out, err = run(command, closed, ["-wait=200ms", "echo no"])
            wanted = (0, "0 / 0 node(s) completed / acknowledged\n", name == "lictor")
            expect(f"{name} exec at a closed agent of {kind}", (found, out, err.startswith(NOBODY)), wanted)
            found, out, _ = run(command, near, [WAIT, "-verbose", "-datacenter=dc2", "echo far"])
            wanted = [
                *("    NODE:", "    NODE: far", "==> NODE: acknowledged", "==> NODE: finished with exit code 0", "1 / 1"),
                f"Binding session to remote node {far.name}@dc2",
                "Remote exec in foreign datacenter, using Session TTL",
            ]
            expect(f"{name} exec in another data center of {kind}", (found, lines(out, far.name)), (0, sorted(wanted)))
        for agent in (near, far, closed):
            nothing_left(agent)
        if kind == "lictor":
            refusals = [line for line in closed.log_lines() if "refused a command of others" in line]
            check(len(refusals) == len(binaries), f"each refusal is logged, and why: {refusals}")
    return runs, differences


def main():
    binaries = {"lictor": lictor()}
    if consul() is not None:
        binaries["consul"] = consul()
    with Scene() as scene:
        runs, differences = compare(scene, binaries)
    for difference in differences:
        print(f"DIFFERS: {difference}")
    check(not differences, f"{len(differences)} of {runs} commands differ")
    print(f"exec: {runs} commands with {' and '.join(binaries)}, all as they must be")


if __name__ == "__main__":
    sys.exit(main())
