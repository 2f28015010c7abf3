#!/usr/bin/env python3
"""A client agent answers DNS from what it keeps: it hears of changes, goes on while every server is dead, and hears of changes again when they are back."""

import os
import sys

import dns_wire as wire
from harness import Failed, Scene, check, equal, eventually, lictor
from resolvers import Fleet, ports

KEY = "IN5eLHKxzdBHjYtQpnFu+PRsmh0yJFd7NmMREW9JV4o="


def main():
    with Scene() as scene:
        data = os.path.join(scene.dir, "data")
        joined = ["-encrypt", KEY, "-retry-join", scene.ip(1)]
        server = scene.agent(lictor(), 1, ["-server", "-bootstrap-expect", "1", "-data-dir", f"{data}1", *joined]).wait_leader()
        client = scene.agent(lictor(), 2, ["-data-dir", f"{data}2", *joined]).wait_leader()
        at = (client.ip, 8600)
        fleet = Fleet(server)
        fleet.add(8100)
        eventually("the client agent answers", lambda: ports(at) == {8100})
        fleet.add(8101)
        eventually("it hears of an instance", lambda: ports(at) == {8100, 8101})
        fleet.remove(8100)
        eventually("it hears that one is gone", lambda: ports(at) == {8101})
        server.kill()
        for _ in range(200):
            equal(ports(at), {8101}, "what it says while the server is dead")
        eventually("it shows how old that is", lambda: age(client) > 0)
        equal(ports(at), {8101}, "what it says after it has noticed")
        unknown = wire.read(wire.over_udp(at, wire.query("unheard.service.consul", "A"), 60))
        equal(unknown.code, "SERVFAIL", "what it says of names that it never heard of")
        server.start()
        server.wait_leader()
        fleet.add(8102)
        eventually("it hears of changes again", lambda: ports(at) == {8101, 8102})
        eventually("nothing is old any more", lambda: age(client) == 0)
    print("autonomy: a client agent answers from what it keeps")
    return 0


def age(agent):
    """How old the oldest answer is that nobody vouches for, in seconds."""
    gauges = {gauge["Name"]: gauge["Value"] for gauge in agent.get("/v1/agent/metrics")["Gauges"]}
    found = [value for name, value in gauges.items() if name.endswith("lictor.dns.kept_age")]
    check(len(found) == 1, f"{sorted(gauges)}")
    return found[0]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, wire.Bad) as error:
        print(f"autonomy: FAILED: {error}")
        sys.exit(1)
