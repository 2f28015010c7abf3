"""Calls of Python's Consul clients about agents, services and their health; a part of clients.py."""

import threading

import consul

from harness import PATIENCE, check, eventually


def discovery(client, other, checked):
    """All of it. `checked` is called with what was found, what was wanted, and what it is."""
    of_the_agent(client, checked)
    registrations(client, checked)
    checks(client, checked)
    maintenance(client, checked)
    catalog(client, checked)
    blocking(client, other, checked)


def passing(client, name):
    return sorted(entry["Service"]["ID"] for entry in client.health.service(name, passing=True)[1])


def soon(client, name, wanted):
    eventually(f"{wanted} of {name} pass", lambda: passing(client, name) == wanted)


def of_the_agent(client, checked):
    about = client.agent.self()
    checked(about["Config"]["Datacenter"], "dc1", "the data center")
    names = [member["Name"] for member in client.agent.members()]
    checked(names, [about["Config"]["NodeName"]], "the members")


def registrations(client, checked):
    service = client.agent.service
    checked(service.register("web", service_id="web-1", address="10.0.0.1", port=80, tags=["a", "b"]), True, "register")
    checked(service.register("web", service_id="web-2", port=81, check=consul.Check.ttl("10m")), True, "with a check")
    services = client.agent.services()
    checked(sorted(services), ["web-1", "web-2"], "services of the agent")
    one = services["web-1"]
    checked((one["Service"], one["Address"], one["Port"], one["Tags"]), ("web", "10.0.0.1", 80, ["a", "b"]), "a service")
    soon(client, "web", ["web-1"])
    checked(client.agent.check.ttl_pass("service:web-2", notes="fine"), True, "ttl_pass")
    soon(client, "web", ["web-1", "web-2"])
    checked(client.agent.checks()["service:web-2"]["Output"], "fine", "the output of a check")
    checked(client.agent.check.ttl_warn("service:web-2", notes="so so"), True, "ttl_warn")
    soon(client, "web", ["web-1"])
    checked(client.agent.check.ttl_fail("service:web-2"), True, "ttl_fail")
    eventually("it is critical", lambda: [c["CheckID"] for c in client.health.state("critical")[1]] == ["service:web-2"])
    tagged = client.health.service("web", tag="a")[1]
    checked([entry["Service"]["ID"] for entry in tagged], ["web-1"], "services with a tag")
    checked(service.deregister("web-2"), True, "deregister")
    eventually("it is gone", lambda: [e["ServiceID"] for e in client.catalog.service("web")[1]] == ["web-1"])
    checked(list(client.agent.checks()), [], "its check went with it")


def checks(client, checked):
    check_ = client.agent.check
    checked(check_.register("node is fine", check=consul.Check.ttl("10m"), check_id="mine", notes="n"), True, "a check")
    found = client.agent.checks()["mine"]
    checked((found["Name"], found["Notes"], found["Status"]), ("node is fine", "n", "critical"), "a check")
    checked(check_.ttl_pass("mine"), True, "ttl_pass")
    node = client.agent.self()["Config"]["NodeName"]

    def look():
        states = {found["CheckID"]: found["Status"] for found in client.health.node(node)[1]}
        return states == {"serfHealth": "passing", "mine": "passing"}

    eventually("the node's checks", look)
    tcp = consul.Check.tcp("127.0.0.1", 1, "10s", "1s")
    checked(client.agent.service.register("closed", check=tcp), True, "a TCP check")
    http = consul.Check.http("http://127.0.0.1:1/", "10s", timeout="1s")
    checked(check_.register("no web", check=http, check_id="http", service_id="closed"), True, "a check of a service")
    checked(sorted(client.agent.checks()), ["http", "mine", "service:closed"], "all checks")

    def refused():
        found = [name for name, one in client.agent.checks().items() if "refused" in one["Output"]]
        return sorted(found) == ["http", "service:closed"]

    eventually("both say that nobody answers", refused)
    for name in ("mine", "http"):
        checked(check_.deregister(name), True, "deregister a check")
    client.agent.service.deregister("closed")
    eventually("it is gone", lambda: client.catalog.service("closed")[1] == [])


def maintenance(client, checked):
    checked(client.agent.service.maintenance("web-1", True, "repairs"), True, "a service in maintenance")
    checked(client.agent.checks()["_service_maintenance:web-1"]["Notes"], "repairs", "the reason")
    soon(client, "web", [])
    checked(client.agent.service.maintenance("web-1", False), True, "its end")
    checked(client.agent.maintenance(True, "holidays"), True, "a node in maintenance")
    soon(client, "web", [])
    checked(client.agent.maintenance(False), True, "its end")
    soon(client, "web", ["web-1"])


def catalog(client, checked):
    catalog_ = client.catalog
    checked(catalog_.datacenters(), ["dc1"], "data centers")
    service = {"Service": "db", "ID": "db-1", "Tags": ["master"], "Port": 5432}
    check_ = {"Node": "far", "Name": "far db", "CheckID": "db", "ServiceID": "db-1", "Status": "passing"}
    checked(catalog_.register("far", "10.9.9.9", service=service, check=check_), True, "register elsewhere")
    checked("far" in [node["Node"] for node in catalog_.nodes()[1]], True, "nodes")
    checked(catalog_.services()[1]["db"], ["master"], "services")
    found = catalog_.service("db")[1]
    checked([(one["Node"], one["ServicePort"]) for one in found], [("far", 5432)], "instances")
    checked(catalog_.service("db", tag="slave")[1], [], "instances with a tag")
    checked(sorted(catalog_.node("far")[1]["Services"]), ["db-1"], "what is on a node")
    checked(catalog_.node("nowhere")[1], None, "a node that is not there")
    checked([one["Status"] for one in client.health.checks("db")[1]], ["passing"], "checks of a service")
    for consistency in ("default", "consistent", "stale"):
        checked(len(catalog_.service("db", consistency=consistency)[1]), 1, f"consistency {consistency}")
    checked(catalog_.deregister("far", check_id="db"), True, "deregister a check")
    checked(catalog_.deregister("far", service_id="db-1"), True, "deregister a service")
    checked(catalog_.service("db")[1], [], "it is gone")
    checked(catalog_.deregister("far"), True, "deregister a node")
    checked("far" in [node["Node"] for node in catalog_.nodes()[1]], False, "it is gone")


def blocking(client, other, checked):
    """A watcher in a thread of its own sees what is registered, and nothing else."""
    index, entries = client.health.service("watched", passing=True)
    checked(entries, [], "nothing yet")
    seen = []

    def watch():
        seen.append(client.health.service("watched", passing=True, index=index, wait="5m"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    other.agent.service.register("unwatched")
    other.agent.service.register("watched", port=1)
    watcher.join(PATIENCE)
    check(seen, "the watcher was not woken")
    checked([entry["Service"]["Port"] for entry in seen[0][1]], [1], "what the watcher saw")
    for name in ("watched", "unwatched", "web-1"):
        other.agent.service.deregister(name)
