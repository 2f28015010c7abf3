#!/usr/bin/env python3
"""fleet.py [--only NAME,..] NAME=BINARY ...: what discovery costs a server, for several systems in turn.

The loads are those of a fleet: healthy instances asked for again and again, thousands who wait for a change, changes that do not
concern those who wait, and a catalog of 5,000 nodes. The systems take turns within each load, so that all get the same machine. Beside
every rate is the processor time of the servers: requests per second of that say more than requests per second on a machine that the
clients are on too. Goals compare the last system that is named with the first.

Needs `wrk` in PATH for `health`, and as many file descriptors (`ulimit -Hn`) as there are watchers, for clients and server each.
"""

import argparse
import itertools
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "conformance"))

from harness import Failed, Scene, check, eventually  # noqa: E402

from crowd import Broken, Watchers, closed_loop, paced, put, quantile  # noqa: E402

API = 8500
INSTANCES = 50
WATCHERS = 10_000
HEALTH = "/v1/health/service/web?passing"
NODES, SERVICES_EACH, CHECKS_EACH, NAMES = 5_000, 4, 2, 100


class Servers:
    """One server, or as many as are asked for, of one system. A context manager."""

    def __init__(self, binary, count=1):
        self.binary, self.count = binary, count

    def __enter__(self):
        self.scene = Scene().__enter__()
        try:
            config = {"limits": {"http_max_conns_per_client": 19_000}, "log_level": "warn"}
            self.agents = self.scene.cluster(self.binary, self.count, config)
            self.leader = self._leader()
        except BaseException:
            self.scene.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error):
        self.scene.__exit__(*error)

    def _leader(self):
        address = self.agents[0].get("/v1/status/leader").rsplit(":", 1)[0]
        return next(agent for agent in self.agents if agent.ip == address)

    @property
    def address(self):
        return (self.leader.ip, API)

    def cpu(self):
        """Seconds of processor time that the servers have used."""
        return sum(sum(ticks(agent.process.pid)) for agent in self.agents)

    def rss(self):
        """Bytes of memory that the leader has."""
        with open(f"/proc/{self.leader.process.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
        return int(line.split()[1]) << 10

    def settle(self, patience=60):
        """Waits until the servers have hardly anything to do."""
        deadline = time.monotonic() + patience
        before, quiet = self.cpu(), 0
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.cpu()
            quiet, before = (quiet + 1 if now - before <= 0.04 * self.count else 0), now

    def index(self, path):
        status, headers, _ = self.leader.call("GET", path)
        check(status == 200, f"{path}: {status}")
        return headers["X-Consul-Index"]

    def write(self, path, body):
        status, _, answer = self.leader.call("PUT", path, body)
        check(status == 200, f"{path}: {status} {answer[:200]!r}")


def ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    per_second = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / per_second, int(fields[12]) / per_second


def registration(node, service, status="passing", instance=None, checks=CHECKS_EACH, note=""):
    """The body that registers an instance of a service on a node that no agent speaks for."""
    instance = instance or service
    address = f"10.{node >> 16 & 255}.{node >> 8 & 255}.{node & 255}"
    output = f"HTTP GET http://{address}:8080/health: 200 OK Output: {note}"
    return json.dumps(
        {
            "Node": f"node-{node}",
            "Address": address,
            "NodeMeta": {"zone": f"z{node % 3}", "kind": "worker"},
            "Service": {
                "ID": instance,
                "Service": service,
                "Port": 8080,
                "Tags": ["v1", "http"],
                "Meta": {"version": "1.4.2"},
            },
            "Checks": [
                {
                    "Node": f"node-{node}",
                    "CheckID": f"{instance}:{number}",
                    "Name": f"Service '{service}' check",
                    "ServiceID": instance,
                    "Status": status,
                    "Output": output,
                }
                for number in range(checks)
            ],
        }
    ).encode()


def register(servers, bodies, connections=32):
    return closed_loop(servers.address, (put(servers.address, "/v1/catalog/register", body) for body in bodies), connections)


def fill_web(servers, count=INSTANCES):
    register(servers, (registration(node, "web") for node in range(count)))
    servers.settle()


# ---- the loads -----------------------------------------------------------------------------------------------------------------


def health(binary, options):
    """Requests for the instances of a service that are well."""
    figures = {}
    with Servers(binary) as servers:
        fill_web(servers)
        url = f"http://{servers.leader.ip}:{API}"
        for name, path, gzip in (
            ("default", HEALTH, False),
            ("stale", HEALTH + "&stale", False),
            ("gzip", HEALTH, True),
        ):
            rate, per_cpu, median = wrk(servers, url + path, options.seconds, gzip)
            figures[f"GET health, {INSTANCES} instances, {name}: requests/s"] = rate
            figures[f"GET health, {INSTANCES} instances, {name}: requests per server CPU second"] = per_cpu
            figures[f"GET health, {INSTANCES} instances, {name}: median"] = median
    return figures


def wrk(servers, url, seconds, gzip):
    command = ["wrk", "-t", "1", "-c", "64", "-d", f"{seconds}s", "--latency", "--timeout", "10s"]
    command += ["-H", "Accept-Encoding: gzip"] if gzip else []
    before = servers.cpu()
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    used = servers.cpu() - before
    check("Non-2xx" not in done, done)
    requests = int(re.search(r"(\d+) requests in", done).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1))
    return count(rate), count(requests / used), re.search(r"^\s+50%\s+(\S+)", done, re.MULTILINE).group(1)


def fanout(binary, options):
    """Thousands who wait for one service, and one change of it."""
    figures = {}
    for instances in (3, INSTANCES):
        with Servers(binary) as servers:
            fill_web(servers, instances)
            path = f"{HEALTH}&wait=10m&index={servers.index(HEALTH)}"
            with Watchers(servers.address, options.watchers) as watchers:
                watchers.watch(path)
                servers.settle()
                watchers.begin_collecting(120)
                cpu, changed = servers.cpu(), time.monotonic()
                servers.write("/v1/catalog/register", registration(0, "web", "critical"))
                times, failed = watchers.end_collecting()
                used = servers.cpu() - cpu
            check(failed == 0, f"{failed} watchers got no success")
            check(len(times) == options.watchers, f"{len(times)} of {options.watchers} watchers were answered")
            what = f"{options.watchers} watchers of {instances} instances, one change"
            figures[f"{what}: first answer"] = millis(times[0] - changed)
            figures[f"{what}: last answer"] = millis(times[-1] - changed)
            figures[f"{what}: server CPU"] = millis(used)
    return figures


def writes(binary, options):
    """What writes take on three servers, while nobody and while thousands wait for something else."""
    taken = {0: [], options.watchers // 2: []}
    with Servers(binary, 3) as servers:
        fill_web(servers)
        path = f"{HEALTH}&wait=10m&index={servers.index(HEALTH)}"
        request = itertools.cycle([put(servers.address, f"/v1/kv/bench/{key}", b"v" * 256) for key in range(1000)])
        paced(servers.address, request, 300, 2)
        # Not more often: Consul keeps the connections of clients that left while they waited, and has a limit for them.
        for _ in range(3):
            for waiting, rounds in taken.items():
                with Watchers(servers.address, waiting) as watchers:
                    watchers.watch(path)
                    servers.settle()
                    rounds.append(paced(servers.address, request, 300, 2 * options.seconds))
                servers.settle()
    figures, worst = {}, []
    for waiting, rounds in taken.items():
        for share in (50, 99):
            # The median of the rounds: one of them may have met somebody else's load.
            typical = statistics.median(quantile(latencies, share / 100) for latencies in rounds)
            figures[f"PUT key, three servers, 300/s, {waiting} idle watchers: p{share}"] = millis(typical)
        worst.append(typical)
    figures["PUT key: p99 with idle watchers / without"] = f"{worst[1] / worst[0]:.2f}"
    return figures


def elsewhere(binary, options):
    """Thousands who wait for one service, while others change all the time."""
    figures = {}
    for waiting in (0, options.watchers):
        with Servers(binary) as servers:
            fill_web(servers, 3)
            names = [f"svc-{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"]
            register(servers, (registration(100 + at, name) for at, name in enumerate(names)))
            path = f"{HEALTH}&wait=10m&index={servers.index(HEALTH)}"
            changes = (
                put(servers.address, "/v1/catalog/register", registration(100 + at, name, status))
                for status in itertools.cycle(("critical", "passing"))
                for at, name in enumerate(names)
            )
            with Watchers(servers.address, waiting) as watchers:
                watchers.watch(path)
                servers.settle()
                watchers.begin_collecting(11)
                cpu = servers.cpu()
                latencies = paced(servers.address, changes, 500, 10)
                used = servers.cpu() - cpu
                answers, _ = watchers.end_collecting()
        what = f"500 changes/s of others for 10 s, {waiting} watchers"
        figures[f"{what}: server CPU"] = millis(used)
        figures[f"{what}: write p99"] = millis(quantile(latencies, 0.99))
        if waiting:
            figures[f"{what}: answers to them"] = str(len(answers))
    return figures


def catalog(binary, _options):
    """A large catalog: filling it, having it, and starting with it."""
    figures = {}
    with Servers(binary) as servers:
        servers.settle()
        before = servers.rss()
        bodies = (
            registration(node, f"app-{(node * SERVICES_EACH + place) % NAMES}", instance=f"app-{place}", note=f"ok {node}")
            for node in range(NODES)
            for place in range(SERVICES_EACH)
        )
        cpu = servers.cpu()
        took = register(servers, bodies)
        servers.settle()
        time.sleep(5)
        servers.settle()
        what = f"{NODES} nodes, {NODES * SERVICES_EACH} instances, {NODES * SERVICES_EACH * CHECKS_EACH} checks"
        figures[f"{what}: time to register"] = f"{took:.1f} s"
        figures[f"{what}: server CPU"] = millis(servers.cpu() - cpu)
        figures[f"{what}: memory before"] = mib(before)
        figures[f"{what}: memory after"] = mib(servers.rss())
        servers.leader.kill()
        started = time.monotonic()
        servers.leader.start()
        expected = NODES * SERVICES_EACH // NAMES
        eventually("the catalog is served again", lambda: len(servers.leader.get("/v1/health/service/app-0?passing")) == expected)
        figures[f"{what}: served again after a restart"] = millis(time.monotonic() - started)
        servers.settle()
        figures[f"{what}: memory after a restart"] = mib(servers.rss())
    return figures


def idle(binary, options):
    """Memory of those who wait."""
    with Servers(binary) as servers:
        fill_web(servers, 3)
        count_ = options.watchers
        before = servers.rss()
        with Watchers(servers.address, count_) as watchers:
            watchers.ask_once(HEALTH)
            servers.settle()
            connected = servers.rss()
            watchers.watch(f"{HEALTH}&wait=10m&index={servers.index(HEALTH)}")
            servers.settle()
            watching = servers.rss()
            cpu = servers.cpu()
            time.sleep(5)
            idle_cpu = (servers.cpu() - cpu) / 5
    return {
        f"an idle connection, of {count_}": kib((connected - before) / count_),
        f"an idle watch with its connection, of {count_}": kib((watching - before) / count_),
        f"an idle watch beyond its connection, of {count_}": kib((watching - connected) / count_),
        f"{count_} idle watches: server CPU": f"{idle_cpu * 100:.1f} %",
    }


LOADS = {load.__name__: load for load in (health, fanout, writes, elsewhere, catalog, idle)}


# ---- figures and goals ---------------------------------------------------------------------------------------------------------


def count(value):
    return f"{value:.0f}"


def millis(seconds):
    return f"{seconds * 1e3:.1f} ms"


def mib(size):
    return f"{size / (1 << 20):.1f} MiB"


def kib(size):
    return f"{size / 1024:.1f} KiB"


def number(figure):
    found = re.match(r"[\d.]+", figure)
    return float(found.group()) if found else None


def ratio(first, last):
    """How the last system's figure compares with the first one's."""
    one, other = number(first), number(last)
    if not first or not last or first.split()[1:] != last.split()[1:] or not one or other is None:
        return ""
    return f"{other / one:.2f}"


def table(systems, figures):
    lines = ["| | " + " | ".join(systems) + " | last / first |", "|---|" + "---:|" * (len(systems) + 1)]
    for name in dict.fromkeys(name for system in systems for name in figures[system]):
        values = [figures[system].get(name, "") for system in systems]
        lines.append(f"| {name} | " + " | ".join(values) + f" | {ratio(values[0], values[-1])} |")
    return "\n".join(lines)


def compare(loads, wanted, options):
    """Runs the loads that are wanted on every system in turn, and prints what comes of it. Returns the exit code: 1 if one of them failed."""
    systems = dict(system.split("=", 1) for system in options.systems)
    figures, failed = {name: {} for name in systems}, False
    for load in wanted:
        for name, binary in systems.items():
            print(f"---- {load}: {name}", file=sys.stderr, flush=True)
            try:
                found = loads[load](os.path.abspath(binary), options)
            except (Broken, Failed) as error:
                # What one system cannot stand says nothing about the others.
                found, failed = {f"{load}: failed": str(error)}, True
            figures[name] |= found
            for what, value in found.items():
                print(f"{what}: {value}", file=sys.stderr, flush=True)
    print(table(list(systems), figures))
    return 1 if failed else 0


def raise_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", metavar="NAME=BINARY", help="for example consul=/usr/bin/consul lictor=target/release/lictor")
    parser.add_argument("--only", default=",".join(LOADS), help=f"of {', '.join(LOADS)}")
    parser.add_argument("--seconds", type=int, default=6, help="how long a load with a rate goes on")
    parser.add_argument("--watchers", type=int, default=WATCHERS, help="how many wait")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - LOADS.keys():
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    if "health" in wanted and shutil.which("wrk") is None:
        parser.error("`health` needs wrk in PATH; leave it out with --only")
    if raise_descriptors() < options.watchers + 1000:
        parser.error(f"too few file descriptors for {options.watchers} watchers: raise the hard limit, or use --watchers")
    return compare(LOADS, wanted, options)


if __name__ == "__main__":
    sys.exit(main())
