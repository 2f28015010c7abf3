#!/usr/bin/env python3
"""Snapshots of a data center that is in use, restored into another one that is in use: nothing is lost, nothing is half, locks stay exclusive.

The first three servers get keys, services, sessions and prepared queries, each recorded with when it was asked for and when it was
acknowledged, while a snapshot is saved. The other three have writers, contenders for locks, readers of a generation of keys that changes as a
whole, and many blocking queries of their own when the snapshot is restored into them.
"""

import argparse
import hashlib
import io
import json
import os
import random
import socket
import tarfile
import threading
import time
import uuid

from harness import PATIENCE, Failed, NotYet, Scene, check, consul, equal, eventually, lictor
from pool import Pool
from restore_load import Contender, Creator, Generations, Looker, Watcher, ends, external, session, transaction

# Who waits for a change must hear of a restore within so many seconds.
WAKE = 10
HELD, CONTENDED = "lock/held", "lock/contended"
OPERATIONS = 64


# ---- what is there -------------------------------------------------------------------------------------------------------------


def content(agent):
    """All that a data center knows, but for what its own servers add: one entry for each thing, by kind and name."""
    found = {}

    def add(kind, name, value):
        check((kind, name) not in found, f"{kind} {name} is there twice")
        found[kind, name] = value

    status, _, body = agent.call("GET", "/v1/kv/?recurse&consistent&fence", timeout=PATIENCE)
    for entry in json.loads(body) if status == 200 else []:
        add("key", entry["Key"], entry)
    for one in agent.get("/v1/session/list?consistent", PATIENCE):
        add("session", one["ID"], one)
    for one in agent.get("/v1/query?consistent", PATIENCE):
        add("query", one["ID"], one)
    for node in agent.get("/v1/catalog/nodes?consistent", PATIENCE):
        if "external-node" in node["Meta"]:
            add("node", node["Node"], node)
            for service in agent.get(f"/v1/catalog/node/{node['Node']}?consistent", PATIENCE)["Services"].values():
                add("service", service["ID"], service)
            for check_ in agent.get(f"/v1/health/node/{node['Node']}?consistent", PATIENCE):
                add("check", check_["CheckID"], check_)
    return found


def archived(found, index):
    """The part of it that a snapshot of this index has to have just so."""
    return {thing: value for thing, value in found.items() if value["ModifyIndex"] <= index}


def check_prefix(creator, found, asked, answered):
    """What one client did, one thing after the other, is there up to some point and not any further; and that point is during the save."""
    names = {kind: {value["Name"] for (kind_, _), value in found.items() if kind_ == kind} for kind in ("session", "query")}
    deleted = {change.name: at for at, change in enumerate(creator.changes) if change.kind == "delete"}
    seen = []
    for change in creator.changes:
        plain = change.name.replace("/", "-")
        if change.kind == "key":
            there = ("key", change.name) in found
            if not there and change.name in deleted:
                # It tells as much as its deletion does, which comes later.
                continue
        elif change.kind == "delete":
            # If it was never made, it tells nothing.
            there = ("key", change.name) not in found and bool(seen) and seen[-1][1]
        elif change.kind == "service":
            there = ("service", plain) in found and ("check", plain) in found
        else:
            there = plain in names[change.kind]
        seen.append((change, there))
    for change, there in seen:
        if change.answered is None:
            continue
        what = f"{change.kind} {change.name}"
        if change.answered < asked:
            check(there, f"{what} was acknowledged {asked - change.answered:.3f} s before the snapshot was asked for, and is not in it")
        if change.asked > answered:
            check(not there, f"{what} was asked for {change.asked - answered:.3f} s after the snapshot was done, and is in it")
    order = [there for change, there in seen if change.answered is not None]
    equal(order, sorted(order, reverse=True), "what one client did in order is there in order")
    return sum(order)


# ---- the scenarios -------------------------------------------------------------------------------------------------------------


def save_under_load(pool, path, keys):
    """Saves a snapshot of a data center in use. Returns what it must be, and what is known of the locks then."""
    through = pool.servers[0]
    register_external(through)
    bulk(through, keys)
    holder = create(through, "holder")
    status, _, body = through.call("PUT", f"/v1/kv/{HELD}?acquire={holder}", b"held")
    equal((status, body.strip()), (200, b"true"), "the lock that is to be held")
    agents = pool.members()
    creators = [Creator(agents, "load", number) for number in range(6)]
    contenders = [Contender(agents, CONTENDED, 0.02) for _ in range(3)]
    others = [Generations(agents, "first-"), *(Looker(agents, server) for server in pool.servers)]

    def busy():
        short = [worker.steps for worker in creators if worker.steps < 60 and worker.error is None]
        check_alive(creators + contenders + others)
        return not short and sum(len(contender.fences) for contender in contenders) >= 10

    eventually("the data center is in use", busy)
    asked = time.monotonic()
    code, out, error = pool.clients[0].command("snapshot", "save", path)
    answered = time.monotonic()
    equal(code, 0, f"lictor snapshot save: {out}{error}")
    steps = [worker.steps for worker in creators]
    eventually("it is still in use", lambda: all(worker.steps > before + 10 for worker, before in zip(creators, steps)))
    ends(creators + contenders + others)
    check_taken(contenders)
    index = inspected(pool.servers[0], path)
    fences = [fence for contender in contenders for _, at, fence in contender.fences if at < asked]
    print(
        f"restore: saved in {answered - asked:.2f} s under load: index {index}, {os.path.getsize(path)} bytes, "
        f"{sum(len(creator.changes) for creator in creators)} changes, fences up to {max(fences)}",
        flush=True,
    )
    return {
        "asked": asked,
        "answered": answered,
        "creators": creators,
        "index": index,
        "truth": archived(content(through), index),
        "holder": holder,
        "fence": max(fences),
    }


def register_external(agent):
    status, _, body = agent.call("PUT", "/v1/catalog/register", json.dumps(external()).encode())
    equal(status, 200, f"the external node: {body!r}: status")


def create(agent, name, **more):
    status, _, body = agent.call("PUT", "/v1/session/create", json.dumps(session(name, **more)).encode())
    equal(status, 200, f"session {name}: {body!r}: status")
    return json.loads(body)["ID"]


def bulk(agent, keys):
    """So many keys, so that an archive takes its time."""
    for first in range(0, keys, OPERATIONS):
        numbers = range(first, min(first + OPERATIONS, keys))
        body = transaction((f"bulk/{number:07}", f"{number} {uuid.uuid4()}" * 4) for number in numbers)
        status, _, answer = agent.call("PUT", "/v1/txn", body)
        equal(status, 200, f"keys in bulk: {answer[:200]!r}: status")


def inspected(agent, path):
    code, out, error = agent.command("snapshot", "inspect", path)
    equal(code, 0, f"lictor snapshot inspect: {error}")
    return int(dict(line.split(None, 1) for line in out.splitlines() if line.strip())["Index"])


def check_alive(workers):
    for worker in workers:
        check(worker.error is None, f"{type(worker).__name__}: {worker.error!r}")


def check_taken(contenders):
    """In the order in which they count, fences of writes never go back."""
    taken = sorted(one for contender in contenders for one in contender.taken)
    fences = [fence for _, fence in taken]
    check(fences, "nothing is written under a fence")
    equal(fences, sorted(fences), "fences in the order of writes")


class Use:
    """A data center in use, into which something is restored. A context manager."""

    def __init__(self, pool, names):
        self.pool, agents = pool, pool.members()
        register_external(pool.servers[0])
        self.creators = [Creator(agents, "other", number) for number in range(3)]
        self.contenders = [Contender(agents, CONTENDED, 0.02) for _ in range(2)]
        self.claimants = [Contender(agents, HELD, 0.02) for _ in range(2)]
        self.generations = Generations(agents, "second-")
        self.lookers = [Looker(agents, server) for server in pool.servers]
        self.watchers = [Watcher(agents[at % len(agents)], path) for at, path in enumerate(names)]
        self.workers = [*self.creators, *self.contenders, *self.claimants, self.generations, *self.lookers, *self.watchers]

    def __enter__(self):
        def busy():
            check_alive(self.workers)
            steps = all(worker.steps >= 20 for worker in self.creators + self.lookers)
            locks = all(any(one.fences for one in some) for some in (self.contenders, self.claimants))
            return steps and locks and all(watcher.answers for watcher in self.watchers)

        eventually("the other data center is in use", busy)
        return self

    def __exit__(self, kind, *_):
        for worker in self.workers:
            worker.ended.set()
        if kind is None:
            # Those who wait for a change are not waited for.
            ends([worker for worker in self.workers if worker not in self.watchers])
            check_alive(self.watchers)


def restore_under_load(pool, path, saved):
    """Restores it into a data center in use."""
    truth = saved["truth"]
    keys = [name for kind, name in truth if kind == "key" and name.startswith("load/")]
    watched = [f"/v1/kv/{key}" for key in random.sample(keys, 12)]
    watched += [f"/v1/kv/load/{number}/?recurse" for number in range(6)]
    watched += [f"/v1/health/service/ext-{number}" for number in range(6)]
    watched += [f"/v1/catalog/service/ext-{number}" for number in range(3)]
    watched += ["/v1/catalog/node/ext", "/v1/session/node/ext", "/v1/session/list", "/v1/catalog/services", "/v1/kv/nothing", "/v1/kv/bulk/?keys"]
    with Use(pool, watched) as use:
        before = max(fence for one in use.contenders + use.claimants for _, _, fence in one.fences)
        asked = time.monotonic()
        code, out, error = pool.servers[1].command("snapshot", "restore", path)
        answered = time.monotonic()
        equal(code, 0, f"lictor snapshot restore: {out}{error}")
        steps = [worker.steps for worker in use.creators + use.lookers]

        def going_on():
            check_alive(use.workers)
            return all(worker.steps >= before + 20 for worker, before in zip(use.creators + use.lookers, steps))

        eventually("the data center is still in use", going_on)
        slowest = 0.0
        for watcher in use.watchers:
            at, status, body = eventually(f"{watcher.path} is told", lambda watcher=watcher: watcher.woke(asked))
            slowest = max(slowest, at - answered)
            check_told(watcher, truth, asked)
        check(slowest <= WAKE, f"somebody was told {slowest:.1f} s after the restore")
        found = content(pool.servers[0])
        check_held(use, pool, saved, answered)

        def again():
            return any(at > answered for one in use.contenders for at, _, _ in one.fences)

        eventually("the contended lock is given again", again)
    check_alive(use.workers)
    check_restored(found, saved)
    creators_after(use.creators, pool, asked, answered)
    check_taken(use.contenders)
    later = [fence for one in use.contenders for at, _, fence in one.fences if at > answered]
    highest = max(before, saved["fence"])
    check(min(later) > highest, f"fence {min(later)} is given after the restore, and {highest} was before")
    marks = {mark for looker in use.lookers for mark in looker.seen}
    check(len(marks) > 1, "the lookers saw only one generation")
    print(
        f"restore: restored in {answered - asked:.2f} s under load: {len(truth)} things, {len(use.watchers)} blocking queries told, the last one "
        f"{max(0.0, slowest):.2f} s after it; {sum(looker.steps for looker in use.lookers)} reads, none of a half; fences from {min(later)} on, {highest} before",
        flush=True,
    )


def check_told(watcher, truth, asked):
    """Every answer to a watcher after the restore is whole."""
    told = [(status, body) for at, status, body in watcher.answers if at > asked]
    if watcher.path.startswith("/v1/kv/load/"):
        if "recurse" in watcher.path:
            prefix = watcher.path.removeprefix("/v1/kv/").removesuffix("?recurse")
            wanted = sorted(name for kind, name in truth if kind == "key" and name.startswith(prefix))
        else:
            wanted = [watcher.path.removeprefix("/v1/kv/")]
        status, body = told[-1]
        equal(status, 200, f"{watcher.path}: status")
        # Keys that were deleted after the snapshot are there as well.
        missing = set(wanted) - {entry["Key"] for entry in body}
        equal(missing, set(), f"{watcher.path}: what is missing")


def check_restored(found, saved):
    """All that was in the snapshot is there, as it was; what is there else came later, or was changed in the first data center since."""
    truth, index = saved["truth"], saved["index"]
    own = ("other/", "pair/", "lock/contended")
    missing, other = [], []
    for (kind, name), value in truth.items():
        if kind == "key" and name.startswith(own):
            continue
        if kind == "session" and value["Name"] == "contender":
            # It may have come to its end.
            continue
        if (kind, name) not in found:
            missing.append((kind, name))
        elif found[kind, name] != value:
            other.append((kind, name, found[kind, name], value))
    equal((missing[:5], len(missing)), ([], 0), "what was in the snapshot and is not there")
    equal((other[:2], len(other)), ([], 0), "what is there as it was not")
    later = [name for (_, name), value in found.items() if name.startswith(("load/", "load-")) and value["ModifyIndex"] > index]
    equal(later, [], f"what is of an index above {index}, of which the snapshot is")
    restored = {thing: value for thing, value in found.items() if value["ModifyIndex"] <= index}
    for creator in saved["creators"]:
        check_prefix(creator, restored, saved["asked"], saved["answered"])


def creators_after(creators, pool, asked, answered):
    """Of what was written to the second data center itself, what was acknowledged before the restore is gone, and what was asked for after it is there."""
    found = content(pool.servers[2])
    gone = there = 0
    for creator in creators:
        for change in creator.changes:
            if change.answered is None or change.kind != "key":
                continue
            deleted = [other for other in creator.changes if (other.kind, other.name) == ("delete", change.name)]
            is_there = ("key", change.name) in found
            if change.answered < asked:
                check(not is_there, f"{change.name} was written before the restore and is there")
                gone += 1
            elif change.asked > answered and not deleted:
                check(is_there, f"{change.name} was written after the restore and is not there")
                there += 1
    check(gone and there, f"too little was written: {gone} before and {there} after the restore")


def check_held(use, pool, saved, answered):
    """The lock that was held when the snapshot was saved is held by the same session, and nobody else ever got it."""
    entry = pool.servers[0].get(f"/v1/kv/{HELD}?consistent")[0]
    equal(entry["Session"], saved["holder"], "the holder of the lock")
    steps = [one.steps for one in use.claimants]
    eventually("others try to get it", lambda: all(one.steps > before + 10 for one, before in zip(use.claimants, steps)))
    equal([one for claimant in use.claimants for one in claimant.fences if one[0] > answered], [], "who else got the lock")
    status, _, body = pool.servers[1].call("PUT", f"/v1/kv/{HELD}?release={saved['holder']}", b"")
    equal((status, body.strip()), (200, b"true"), "the holder lets it go")
    eventually("another one gets it", lambda: any(at > answered for claimant in use.claimants for at, _, _ in claimant.fences))


def kills(pool, path, saved):
    """What was restored is there when all servers are killed at once; and a restore comes to its end while servers are killed."""
    code, out, error = pool.servers[0].command("snapshot", "restore", path)
    equal(code, 0, f"lictor snapshot restore: {out}{error}")
    for server in pool.servers:
        server.kill()
    for server in pool.servers:
        server.start()
    pool.wait_ready()
    for server in pool.servers:
        eventually(f"{server.name} has it", lambda server=server: same(server, saved))
    rounds = [while_killed(pool, path, saved, victim) for victim in ("a follower", "the leader")]
    print(f"restore: kept when all servers were killed; restored in {rounds[0]:.2f} s and {rounds[1]:.2f} s while a follower and the leader were", flush=True)


def while_killed(pool, path, saved, victim):
    """A restore in the middle of which a server is killed. Returns how long it took."""
    for attempt in range(1, 21):
        leader = pool.leader()
        # Something else to be replaced.
        for number in range(50):
            equal(leader.call("PUT", f"/v1/kv/other/kill/{number}", b"x")[0], 200, "something else: status")
        followers = [server for server in pool.servers if server is not leader]
        killed = followers[0] if victim == "a follower" else leader
        outcome = []
        restoring = threading.Thread(target=lambda asked=followers[1]: outcome.append(asked.command("snapshot", "restore", path)))
        started = time.monotonic()
        restoring.start()
        time.sleep(random.uniform(0.05, 1.0 / attempt))
        in_the_middle = restoring.is_alive()
        killed.kill()
        restoring.join(PATIENCE)
        check(outcome, f"a restore while {victim} is killed does not end")
        equal(outcome[0][0], 0, f"a restore while {victim} is killed: {outcome[0]}")
        took = time.monotonic() - started
        killed.start()
        pool.wait_ready()
        for server in pool.servers:
            eventually(f"{server.name} has it", lambda server=server: same(server, saved))
        if in_the_middle:
            return took
    raise Failed(f"{victim} was never killed in the middle of a restore")


def same(server, saved):
    """Whether a server has what is in the snapshot, by its own word."""
    status, _, body = server.call("GET", "/v1/kv/?recurse&stale&fence", timeout=PATIENCE)
    if status != 200:
        raise NotYet(f"{server.name} has no keys")
    found = {("key", entry["Key"]): entry for entry in json.loads(body)}
    own = ("pair/", "lock/contended")
    wanted = {thing: value for thing, value in saved["truth"].items() if thing[0] == "key" and not thing[1].startswith(own)}
    wrong = [thing for thing, value in wanted.items() if found.get(thing) != value]
    if wrong:
        raise NotYet(f"{len(wrong)} of {len(wanted)} keys are not as they were, {wrong[:3]} among them")
    if [name for _, name in found if name.startswith("other/")]:
        raise NotYet("something is there that was not in the snapshot")
    return True


def refusals(scene, pool, path, beside):
    """What is no archive, or not a whole one, changes nothing."""
    with open(path, "rb") as file:
        whole = file.read()
    cases = {f"cut at {share}": (whole[: int(len(whole) * share)], None) for share in (0, 0.01, 0.5, 0.9)}
    cases["without its last byte"] = (whole[:-1], None)
    cases["with more behind it"] = (whole + b"more", None)
    for _ in range(20):
        # The first bytes of the compression say little.
        at = random.randrange(10, len(whole) - 10)
        cases[f"altered at {at}"] = (whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :], None)
    cases["a text"] = (b"this is not a snapshot at all, but a text", "gzip: invalid header")
    cases["with another index"] = (edited(whole, lambda meta: meta | {"Index": meta["Index"] + 1}, sums=False), 'hash check failed for "meta.json"')
    cases["with an index beyond all"] = (edited(whole, lambda meta: meta | {"Index": 1 << 60}), "no data center comes to any above")
    cases["with an index before its rows"] = (edited(whole, lambda meta: meta | {"Index": 1}), "cannot be restored")
    if beside is not None:
        cases["of Consul"] = (consul_archive(scene, beside), "not made by Lictor")
    before, leader = content(pool.servers[0]), pool.leader()
    _, headers, _ = leader.call("GET", "/v1/kv/?keys&consistent")
    for name, (archive, text) in cases.items():
        server = random.choice(pool.servers)
        status, _, body = server.call("PUT", "/v1/snapshot", archive, PATIENCE)
        equal(status, 500, f"an archive {name}: {body[:200]!r}: status")
        check(text is None or text in body.decode(), f"an archive {name}: {body!r}, and it should say {text!r}")
    for server in pool.servers:
        found = content(server)
        equal({thing for thing in before | found if before.get(thing) != found.get(thing)}, set(), "what was changed by archives that were refused")
    _, after, _ = leader.call("GET", "/v1/kv/?keys&consistent")
    equal(after["X-Consul-Index"], headers["X-Consul-Index"], "the index of the keys")
    print(f"restore: {len(cases)} archives that are none refused, nothing changed{'' if beside else '; none of Consul, which is not there'}", flush=True)


class Slow(threading.Thread):
    """Takes a snapshot so slowly that it never comes to its end."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self.sock, self.taken = socket.socket(), 0
        # So that little of it is on its way.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect((agent.ip, 8500))
        self.sock.sendall(f"GET /v1/snapshot HTTP/1.1\r\nHost: {agent.ip}\r\n\r\n".encode())
        self.head = self.sock.recv(1024)
        self.start()

    def run(self):
        try:
            while data := self.sock.recv(1024):
                self.taken += len(data)
                time.sleep(0.1)
        except OSError:
            # The agent is gone.
            pass


def slow_readers(scene, binary):
    """Who takes snapshots slowly does not keep others from it."""
    agent = scene.single(binary, 201)
    for first in range(0, 50_000, OPERATIONS):
        # Nothing that could be compressed, so that it does not fit into what the system keeps of a connection.
        body = transaction((f"bulk/{number}", os.urandom(128).hex() + os.urandom(128).hex()) for number in range(first, first + OPERATIONS))
        equal(agent.call("PUT", "/v1/txn", body)[0], 200, "keys in bulk: status")
    readers = []
    # As many as there are places, and one that gets none.
    while all(reader.head.startswith(b"HTTP/1.1 200") for reader in readers):
        check(len(readers) < 100, "there is a place for everybody")
        readers.append(Slow(agent))
    check(readers[-1].head.startswith(b"HTTP/1.1 429"), f"one too many: {readers[-1].head!r}")
    started = time.monotonic()

    def saved():
        status, _, body = agent.call("GET", "/v1/snapshot", timeout=PATIENCE)
        if status == 429:
            raise NotYet(body.decode())
        equal(status, 200, f"{body[:200]!r}: status")
        return body

    archive = eventually("somebody else gets a snapshot", saved)
    took = time.monotonic() - started
    edited(archive, lambda meta: meta)
    # Its connection is cut behind what is on its way already, which takes a slow one long to take.
    eventually("the agent says who gave way", lambda: any("gave way to another one" in line for line in agent.log_lines()))
    check(all(reader.taken < len(archive) for reader in readers), "one that was slow came to the end")
    print(f"restore: with {len(readers) - 1} slow readers, somebody else had a snapshot of {len(archive)} bytes after {took:.1f} s", flush=True)
    agent.kill()


def edited(archive, edit, sums=True):
    """The archive with other metadata, and the right checksums for them if those are wanted."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}
    files["meta.json"] = json.dumps(edit(json.loads(files["meta.json"]))).encode()
    if sums:
        lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in ("meta.json", "state.bin")]
        files["SHA256SUMS"] = "".join(lines).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name, content_ in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content_)
            tar.addfile(entry, io.BytesIO(content_))
    return out.getvalue()


def consul_archive(scene, binary):
    agent = scene.dev(binary, 200)
    try:
        status, _, archive = agent.call("GET", "/v1/snapshot")
        equal(status, 200, "a snapshot of Consul: status")
        return archive
    finally:
        agent.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=20_000, help="how many keys there are besides those that are checked one by one")
    arguments = parser.parse_args()
    binary = lictor()
    with Scene() as scene:
        path = os.path.join(scene.dir, "first.snap")
        first = Pool(scene, binary, clients=1).wait_ready()
        second = Pool(scene, binary, clients=1, first=11).wait_ready()
        saved = save_under_load(first, path, arguments.keys)
        for agent in first.members():
            agent.kill()
        restore_under_load(second, path, saved)
        kills(second, path, saved)
        refusals(scene, second, path, consul())
        slow_readers(scene, binary)
    print("restore: ok")


if __name__ == "__main__":
    main()
