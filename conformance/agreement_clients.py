"""Calls of Python's Consul clients about sessions, locks, prepared queries, events and what operators ask; a part of clients.py."""

from harness import eventually


def agreement(client, checked):
    """All of it. `checked` is called with what was found, what was wanted, and what it is."""
    sessions(client, checked)
    locks(client, checked)
    queries(client, checked)
    events(client, checked)
    operators(client, checked)


def sessions(client, checked):
    session = client.session
    node = client.agent.self()["Config"]["NodeName"]
    eventually("the node is known", lambda: client.health.node(node)[1])
    first = session.create(name="first", ttl=60, lock_delay=0, behavior="delete")
    other = session.create(name="other", node=node, checks=["serfHealth"])
    checked(sorted(one["ID"] for one in session.list()[1]), sorted([first, other]), "all sessions")
    checked(sorted(one["ID"] for one in session.node(node)[1]), sorted([first, other]), "sessions of a node")
    about = session.info(first)[1]
    checked((about["Name"], about["Behavior"], about["TTL"], about["Node"]), ("first", "delete", "60s", node), "a session")
    checked(session.renew(first)["ID"], first, "renew")
    for one in (first, other):
        checked(session.destroy(one), True, "destroy")
    checked(session.info(first)[1], None, "one that is gone")
    checked(session.list()[1], [], "no sessions")


def locks(client, checked):
    kv = client.kv
    one, two = (client.session.create(lock_delay=0, behavior=behavior) for behavior in ("release", "delete"))
    checked(kv.put("lock", "1", acquire=one), True, "acquire")
    checked(kv.put("lock", "2", acquire=two), False, "acquire what is held")
    entry = kv.get("lock")[1]
    checked((entry["Session"], entry["LockIndex"], entry["Value"]), (one, 1, b"1"), "a locked entry")
    checked(kv.put("lock", "3", release=two), False, "release by another")
    checked(kv.put("lock", "3", release=one), True, "release")
    checked("Session" in kv.get("lock")[1], False, "a free entry")
    checked(kv.put("lock", "4", acquire=two), True, "acquire what is free")
    checked(client.session.destroy(two), True, "destroy the holder")
    checked(kv.get("lock")[1], None, "what its holder takes along")
    checked(kv.put("lock", "5", acquire=one), True, "acquire")
    checked(client.session.destroy(one), True, "destroy the holder")
    checked(kv.get("lock")[1]["Value"], b"5", "what its holder leaves behind")
    kv.delete("lock")


def queries(client, checked):
    client.agent.service.register("asked", port=80, tags=["a"])
    eventually("the service is known", lambda: client.catalog.service("asked")[1])
    query = client.query
    made = query.create("asked", name="q", onlypassing=True, tags=["a"], ttl="10s")["ID"]
    checked([one["Name"] for one in query.list()], ["q"], "all queries")
    found = query.get(made)[0]
    checked((found["Service"]["Service"], found["Service"]["Tags"], found["DNS"]["TTL"]), ("asked", ["a"], "10s"), "a query")
    answer = query.execute("q")
    checked([one["Service"]["Port"] for one in answer["Nodes"]], [80], "what a query finds")
    checked(query.explain("q")["Query"]["ID"], made, "explain")
    checked(query.update(made, "asked", name="q", tags=["b"]), True, "update")
    checked(query.execute("q")["Nodes"], [], "what it finds then")
    checked(query.delete(made), True, "delete")
    checked(query.list(), [], "no queries")
    client.agent.service.deregister("asked")


def events(client, checked):
    fired = client.event.fire("deployed", body="v2")
    checked(fired["Name"], "deployed", "fire")
    eventually("it has arrived", lambda: fired["ID"] in [one["ID"] for one in client.event.list(name="deployed")[1]])
    checked(client.event.list(name="other")[1], [], "events of another name")


def operators(client, checked):
    servers = client.operator.raft_config()["Servers"]
    checked([(one["Leader"], one["Voter"]) for one in servers], [(True, True)], "the Raft configuration")
    checked([one["Datacenter"] for one in client.coordinate.datacenters()], ["dc1"], "coordinates of data centers")
