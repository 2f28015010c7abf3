"""The calls of Python's Consul clients against an agent: keys, locks, transactions, status; plain and asyncio.

Run by `run`, once in an environment of its own for each of several packages, which are all imported as `consul`.
"""

import asyncio
import importlib.metadata
import sys
import threading

import consul

from agreement_clients import agreement
from discovery_clients import discovery
from harness import PATIENCE, Scene, check, equal, lictor

NOBODY = "00000000-0000-4000-8000-000000000000"
CHECKED = 0


def same(found, wanted, what):
    global CHECKED
    CHECKED += 1
    equal(found, wanted, what)


def raises(kind, words, call):
    """The call raises this, with these words in its text."""
    global CHECKED
    CHECKED += 1
    try:
        result = call()
    except kind as error:
        check(words in str(error), f"no {words!r} in {error!r}")
    else:
        check(False, f"{result!r} instead of {kind.__name__} {words!r}")


def keys(client):
    kv = client.kv
    index, missing = kv.get("none")
    same(missing, None, "a missing key")
    check(int(index) >= 1, "an index is never 0")
    same(kv.put("a", "text"), True, "put")
    index, entry = kv.get("a")
    same(entry["Value"], b"text", "get")
    same((entry["Key"], entry["Flags"], entry["LockIndex"]), ("a", 0, 0), "an entry")
    same(int(index), entry["ModifyIndex"], "the index of a key")
    same(kv.put("a", b"\x00\xff", flags=3304740253564472344), True, "put of bytes")
    entry = kv.get("a")[1]
    same((entry["Value"], entry["Flags"]), (b"\x00\xff", 3304740253564472344), "bytes and flags")
    same(kv.put("empty", ""), True, "put of nothing")
    same(kv.get("empty")[1]["Value"], None, "nothing")
    same(kv.put("dir/\u00e7 &?<>", "x"), True, "a key with all kinds of characters")
    for key in ("dir/a", "dir/b/c", "dir/b/d", "dirt"):
        kv.put(key, key)
    names = [entry["Key"] for entry in kv.get("dir/", recurse=True)[1]]
    same(names[:3], ["dir/a", "dir/b/c", "dir/b/d"], "recurse")
    same(len(names), 4, "recurse")
    same(kv.get("dir/b", recurse=True)[1][0]["Value"], b"dir/b/c", "recurse decodes")
    same(kv.get("nothing", recurse=True)[1], None, "recurse to nothing")
    same(kv.get("dir/b", keys=True)[1], ["dir/b/c", "dir/b/d"], "keys")
    same(kv.get("dir", keys=True, separator="/")[1], ["dir/", "dirt"], "keys with a separator")
    for mode in ("default", "consistent", "stale"):
        same(kv.get("dir/a", consistency=mode)[1]["Value"], b"dir/a", f"consistency {mode}")
    same(kv.get("dir/a", dc="dc1")[1]["Value"], b"dir/a", "the data center by name")
    same(kv.delete("dirt"), True, "delete")
    same(kv.get("dirt")[1], None, "what was deleted")
    same(kv.delete("dirt"), True, "delete of nothing")
    same(kv.delete("dir/", recurse=True), True, "delete of a tree")
    same(kv.get("dir/", recurse=True)[1], None, "a deleted tree")


def check_and_set(client):
    kv = client.kv
    same(kv.put("cas", "1", cas=0), True, "create")
    same(kv.put("cas", "2", cas=0), False, "create what is there")
    index = kv.get("cas")[1]["ModifyIndex"]
    same(kv.put("cas", "2", cas=index + 1), False, "a wrong index")
    same(kv.put("cas", "2", cas=index), True, "the right index")
    index = kv.get("cas")[1]["ModifyIndex"]
    same(kv.delete("cas", cas=index - 1), False, "delete with a wrong index")
    same(kv.delete("cas", cas=index), True, "delete with the right index")
    same(kv.get("cas")[1], None, "it is gone")


def locks_without_sessions(client):
    error = consul.ConsulException
    raises(error, "UUID must be 36 characters", lambda: client.kv.put("lock", "x", acquire="short"))
    raises(error, f'invalid session "{NOBODY}"', lambda: client.kv.put("lock", "x", acquire=NOBODY))
    same(client.kv.put("lock", "x", release=NOBODY), False, "release of what is not held")
    same(client.kv.get("lock")[1], None, "nothing was written")


def mistakes(client):
    raises(consul.ConsulException, "No path to datacenter", lambda: client.kv.get("a", dc="mars"))
    raises(consul.ConsulException, "Missing key name", lambda: client.kv.put("", "x"))
    raises(consul.ConsulException, "Invalid wait time", lambda: client.kv.get("a", index=1, wait="5"))
    raises(consul.ConsulException, "too large", lambda: client.kv.put("large", "x" * (512 * 1024 + 1)))


def blocking(client, other):
    """A watcher in a thread of its own sees a write of another client."""
    client.kv.put("watched", "old")
    index, _ = client.kv.get("watched")
    seen = []
    watcher = threading.Thread(target=lambda: seen.append(client.kv.get("watched", index=index, wait="5m")), daemon=True)
    watcher.start()
    other.kv.put("unwatched", "x")
    other.kv.put("watched", "new")
    watcher.join(PATIENCE)
    same([entry["Value"] for _, entry in seen], [b"new"], "what the watcher saw")
    index = seen[0][0]
    same(client.kv.get("watched", index=index, wait="50ms")[0], index, "a wait that ends by itself")


def transactions(client):
    if not hasattr(client, "txn"):
        return
    done = client.txn.put(
        [
            {"KV": {"Verb": "set", "Key": "tx/a", "Value": "eA==", "Flags": 5}},
            {"KV": {"Verb": "get", "Key": "tx/a"}},
        ]
    )
    same(done["Errors"], None, "errors of a transaction")
    same([entry["KV"]["Value"] for entry in done["Results"]], [None, "eA=="], "its results")
    same(client.kv.get("tx/a")[1]["Flags"], 5, "what it wrote")
    rolled_back = [
        {"KV": {"Verb": "set", "Key": "tx/b", "Value": "eA=="}},
        {"KV": {"Verb": "check-index", "Key": "tx/a", "Index": 1}},
    ]
    raises(consul.ConsulException, "failed index check", lambda: client.txn.put(rolled_back))
    same(client.kv.get("tx/b")[1], None, "what was rolled back")


def status(client, agent):
    same(client.status.leader(), f"{agent.ip}:8300", "the leader")
    same(client.status.peers(), [f"{agent.ip}:8300"], "the peers")


async def with_asyncio(agent):
    import consul.aio  # one package's does not load on newer Pythons

    client = consul.aio.Consul(host=agent.ip, port=8500)
    same(await client.kv.put("aio", "old"), True, "put, asyncio")
    index, entry = await client.kv.get("aio")
    same(entry["Value"], b"old", "get, asyncio")
    watching = asyncio.ensure_future(client.kv.get("aio", index=index, wait="5m"))
    same(await client.kv.put("aio", "new"), True, "put while one watches, asyncio")
    same((await asyncio.wait_for(watching, PATIENCE))[1]["Value"], b"new", "what the watcher saw, asyncio")
    puts = await asyncio.gather(*[client.kv.put(f"many/{number}", str(number)) for number in range(100)])
    same(puts, [True] * 100, "a hundred at once, asyncio")
    _, many = await client.kv.get("many/", recurse=True)
    same({entry["Key"]: entry["Value"] for entry in many}, {f"many/{n}": b"%d" % n for n in range(100)}, "all of them")
    same(await client.kv.delete("many/", recurse=True), True, "delete, asyncio")
    same(await client.status.leader(), f"{agent.ip}:8300", "the leader, asyncio")
    closed = client.http.close()
    if closed is not None:
        await closed


def main(package):
    with Scene() as scene:
        agent = scene.dev(lictor(), 1)
        client, other = (consul.Consul(host=agent.ip, port=8500) for _ in range(2))
        keys(client)
        check_and_set(client)
        locks_without_sessions(client)
        mistakes(client)
        blocking(client, other)
        transactions(client)
        status(client, agent)
        discovery(client, other, same)
        agreement(client, same)
        if package != "python-consul":
            asyncio.run(with_asyncio(agent))
    print(f"clients: {package} {importlib.metadata.version(package)}: {CHECKED} checks")


if __name__ == "__main__":
    main(sys.argv[1])
