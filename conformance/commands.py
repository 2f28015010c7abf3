#!/usr/bin/env python3
"""The kv commands across: Consul's own command line against Lictor, and Lictor's against Consul.

Every command runs four ways, with either binary against either agent; what is printed and the exit code must be the same. Without
the real binary (in PATH, or named by $CONSUL), only `lictor kv` against Lictor is run.
"""

import os
import re
import subprocess
import sys

from harness import Scene, check, consul, equal, lictor

SCRIPT = [
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

INDEX = re.compile(r"((?:Create|Modify)Index +)\d+")


def run(binary, agent, words, text):
    command, rest = words[0], words[1:]
    done = subprocess.run(
        [binary, "kv", command, f"-http-addr={agent.ip}:8500", *rest],
        input=text or "",
        capture_output=True,
        errors="backslashreplace",
        timeout=60,
        env={"PATH": os.environ.get("PATH", "")},
    )
    return done.returncode, INDEX.sub(r"\1N", done.stdout), neutral(done.stderr)


def neutral(text):
    """An error without the product's name, and without the usage that may follow it, which is the product's own."""
    text = text.replace("Lictor", "Consul").replace("lictor", "consul")
    return re.split(r"\n\nUsage: |\nUsage: |\nFor additional help", text)[0].rstrip()


def main():
    binaries = {"lictor": lictor()}
    if consul() is not None:
        binaries["consul"] = consul()
    checked, differences = 0, []
    with Scene() as scene:
        agents = {name: scene.single(binary, 1 + at) for at, (name, binary) in enumerate(binaries.items())}
        wanted = []
        # With a store of its own each time: the last command empties it.
        for command, binary in reversed(binaries.items()):
            for name, agent in reversed(agents.items()):
                for at, (words, text) in enumerate(SCRIPT):
                    result = run(binary, agent, words, text)
                    if at == len(wanted):
                        wanted.append(result)
                    checked += 1
                    if result != wanted[at]:
                        differences.append(f"{command} kv {' '.join(words)} at {name}: {result}, and not {wanted[at]}")
        if "consul" not in binaries:
            equal(wanted[0], (0, "Success! Data written to: app/a\n", ""), "lictor kv put")
    for difference in differences:
        print(f"DIFFERS: {difference}")
    check(not differences, f"{len(differences)} of {checked} commands differ")
    print(f"commands: {checked} runs of {len(SCRIPT)} commands with {' and '.join(binaries)}, all the same")


if __name__ == "__main__":
    sys.exit(main())
