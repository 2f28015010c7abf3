"""Several data centers, servers that are replaced one after another, and a cluster that moves as a whole."""

import signal
import threading
import time

from harness import Failed, NotYet, Scene, check, equal, eventually
from kill_loop import Writer, verify
from pool import LeaderWatch, Pool, Steady, node_id, read, states, write


def datacenters(report, binary):
    with Scene() as scene:
        here = Pool(scene, binary, clients=1)
        there = Pool(scene, binary, clients=0, datacenter="dc2", first=21, more=["-retry-join-wan", scene.ip(1)])
        here.wait_ready()
        there.wait_ready()
        client, started = here.clients[0], time.monotonic()
        eventually("both are known", lambda: set(client.get("/v1/catalog/datacenters")) == {"dc1", "dc2"})
        equal(client.get("/v1/catalog/datacenters")[0], "dc1", "the nearest data center")
        reach(client)
        report.note("the other data center is reached", time.monotonic() - started, "s")
        equal(read(there.servers[0], "x"), b"over there", "what was written from afar")
        equal(client.call("GET", "/v1/kv/x")[0], 404, "the key in the data center that it was not written to")

        before = here.leader(), states(client)
        with Steady([client], "steady") as steady:
            for server in there.servers:
                server.kill()
            slowest = 0.0
            for _ in range(10):
                asked = time.monotonic()
                status, _, body = client.call("GET", "/v1/kv/x?dc=dc2", timeout=60)
                slowest = max(slowest, time.monotonic() - asked)
                check(status == 500 and body, f"dc2 is dead, and answers {status} {body!r}")
                time.sleep(1)
        report.note("a request to a data center that died gets its error", slowest, "s", 5)
        report.note("meanwhile: longest time without a write here", steady.longest_gap, "s", 1)
        equal((steady.failed, (here.leader(), states(client))), (0, before), "failed writes, leader and members here")

        for server in there.servers:
            server.start()
        there.wait_ready()
        started = time.monotonic()
        reach(client)
        report.note("the other data center is back, and reached", time.monotonic() - started, "s")


def reach(client):
    """Writes to the other data center, and reads what was written."""

    def look():
        try:
            write(client, "x?dc=dc2", b"over there")
            return read(client, "x", "&dc=dc2") == b"over there"
        except Failed as error:
            raise NotYet(error) from error

    eventually("the other data center writes and reads", look)


def replacement(report, binary, how):
    """Every server gives way to a new one with another id, at another address, while clients write."""
    with Scene() as scene:
        pool = Pool(scene, binary, clients=0).wait_ready()
        live, stop = list(pool.servers), threading.Event()
        writers = [Writer(number, live, stop) for number in range(4)]
        with LeaderWatch(live) as watch, Steady(live, "steady") as steady:
            for writer in writers:
                writer.start()
            try:
                for old in list(pool.servers):
                    replace(pool, live, old, how)
            finally:
                stop.set()
                for writer in writers:
                    writer.join()
        for server in live:
            server.wait_leader()
        verify(live, writers)
        acknowledged = sum(len(writer.acknowledged) for writer in writers)
        tried = sum(writer.tried for writer in writers)
        report.note(f"three servers are replaced ({how}): writes tried under way", tried, "writes")
        report.note(f"three servers are replaced ({how}): acknowledged, none of them lost", acknowledged, "writes")
        report.note(f"three servers are replaced ({how}): longest time without a leader", watch.longest_gap, "s", 3)
        report.note(f"three servers are replaced ({how}): longest time without a write", steady.longest_gap, "s", 3)


def replace(pool, live, old, how):
    others = [server for server in live if server is not old]
    new = pool.add(old.host + 10, server=True, known=others[0].host)
    pool.servers.append(new)
    new.wait_leader()
    added, gone = node_id(new), node_id(old)
    eventually(f"{new.name} votes", lambda: added in pool.voters(others[0]))
    live.append(new)
    # Nobody asks a server that is known to go; who asked before has its answer.
    live.remove(old)
    pool.servers.remove(old)
    if how == "leave":
        equal(old.command("leave"), (0, "Graceful leave complete\n", ""), "lictor leave")
    else:
        old.kill()
    eventually(f"{old.name} has no vote any more", lambda: gone not in pool.voters(new))


def readdressing(report, binary):
    """All servers stop, and start somewhere else: the same ids, other addresses."""
    with Scene() as scene:
        pool = Pool(scene, binary, clients=2).wait_ready()
        write(pool.clients[0], "x", b"before")
        ids = {agent.name: node_id(agent) for agent in pool.members()}
        for agent in pool.members():
            agent.kill(signal.SIGTERM if agent in pool.servers else signal.SIGKILL)
        for agent in pool.members():
            data = agent.argv[agent.argv.index("-data-dir") + 1]
            agent.move(agent.host + 100, pool.arguments(agent.host + 100, agent in pool.servers, 101 if agent.host != 1 else 102))
            agent.argv[agent.argv.index("-data-dir") + 1] = data
        started = time.monotonic()
        for agent in pool.members():
            agent.start()
        leader = pool.leader()
        report.note("all servers have moved: a leader", time.monotonic() - started, "s", 15)
        pool.wait_ready()
        equal(read(leader, "x"), b"before", "what was written before the move")
        write(pool.clients[0], "x", b"after")
        report.note("all servers have moved: everybody alive, everywhere", pool.settle("the move", {}), "s")
        equal({agent.name: node_id(agent) for agent in pool.members()}, ids, "the ids")
