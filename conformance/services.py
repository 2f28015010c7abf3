"""What runs where, and is it well: real processes behind real checks, registered with agents in client mode, looked for at servers."""

import json
import signal
import subprocess
import sys
import threading
import time

from harness import PATIENCE, NotYet, Scene, check, equal, eventually, http
from pool import Pool

# How often the checks here look, in seconds.
INTERVAL = 1
# What a machine that is busy may add.
SLACK = 0.5

# A process that answers every request with 200, at the address and port that it is told.
ANSWERER = """
import http.server, sys
class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fine")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Fine).serve_forever()
"""


class Process:
    """A real process that answers HTTP."""

    def __init__(self, ip, port):
        self.ip, self.port, self.process = ip, port, None

    def start(self):
        self.process = subprocess.Popen([sys.executable, "-c", ANSWERER, self.ip, str(self.port)])
        return self

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def put(agent, path, body=None, wanted=200):
    """A write that must be answered with that status. Returns the answer's text."""
    data = None if body is None else json.dumps(body).encode()
    status, _, answer = agent.call("PUT", path, data)
    equal(status, wanted, f"PUT {path} at {agent.name}, which says {answer[:300]!r}")
    return answer.decode()


def passing(server, name):
    """The ids of the instances that a server gives as passing."""
    return sorted(entry["Service"]["ID"] for entry in server.get(f"/v1/health/service/{name}?passing"))


def found_by(servers, name, wanted):
    """How long it takes until all servers give exactly these instances, in seconds."""
    started = time.monotonic()
    for server in servers:
        eventually(f"{server.name} finds {wanted} of {name}", lambda server=server: passing(server, name) == wanted)
    return time.monotonic() - started


def services(report, binary):
    with Scene() as scene:
        pool = Pool(scene, binary, clients=2)
        pool.settle("the pool forms", {})
        pool.wait_ready()
        process = Process(scene.ip(200), 8080).start()
        eventually("the process answers", lambda: http("GET", f"http://{process.ip}:{process.port}/")[0] == 200)
        try:
            for step in (comes_and_goes, survives_restarts, is_told, is_maintained, is_not_taken, is_repaired, ends):
                print(f" {step.__name__}", flush=True)
                step(report, pool, process)
        finally:
            process.kill()


def comes_and_goes(report, pool, process):
    client = pool.clients[0]
    check_ = {"HTTP": f"http://{process.ip}:{process.port}/", "Interval": f"{INTERVAL}s", "Timeout": "1s"}
    put(client, "/v1/agent/service/register", {"Name": "web", "Port": process.port, "Tags": ["v1"], "Check": check_})
    took = found_by(pool.servers, "web", ["web"])
    report.note("a service that is registered with a client agent is found at every server", took, "s", 1)
    for _ in range(3):
        process.kill()
        report.note("its process is killed: it is not found any more", found_by(pool.servers, "web", []), "s", INTERVAL + SLACK)
        process.start()
        report.note("its process is back: it is found", found_by(pool.servers, "web", ["web"]), "s", INTERVAL + 1 + SLACK)
    entry = pool.servers[1].get("/v1/health/service/web")[0]
    equal([one["CheckID"] for one in entry["Checks"]], ["serfHealth", "service:web"], "its checks")
    check("200 OK" in entry["Checks"][1]["Output"], f"an output without the status: {entry['Checks'][1]['Output']!r}")
    status, _, body = client.call("GET", "/v1/agent/health/service/id/web?format=text")
    equal((status, body), (200, b"passing"), "what the agent says of it")


def survives_restarts(report, pool, process):
    """Whoever looks while the agent is killed and comes back sees the service as passing, all the time."""
    client, server = pool.clients[0], pool.servers[2]
    for index in range(20):
        name = f"many{index}"
        put(client, "/v1/agent/service/register", {"Name": name, "Check": {"TTL": "10m", "Status": "passing"}})
    seen, ended = [], threading.Event()

    def watch():
        index = 0
        while not ended.is_set():
            _, headers, body = server.call("GET", f"/v1/health/state/any?index={index}&wait=1s&node=n4")
            index = headers["X-Consul-Index"]
            bad = [one for one in json.loads(body) if one["Node"] == client.name and one["Status"] != "passing"]
            seen.extend((one["CheckID"], one["Status"]) for one in bad)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for how in (signal.SIGKILL, signal.SIGINT):
            client.kill(how)
            started = time.monotonic()
            client.start()
            eventually("the agent answers again", lambda: len(client.get("/v1/agent/services")) == 21)
            report.note(f"the agent has its services again after {signal.Signals(how).name}", time.monotonic() - started, "s")
            time.sleep(3 * INTERVAL)
    finally:
        ended.set()
        watcher.join()
    equal(seen, [], "what was seen that was not passing")
    for index in range(20):
        put(client, f"/v1/agent/service/deregister/many{index}")
    found_by(pool.servers, "many7", [])


def is_told(report, pool, process):
    client = pool.clients[1]
    put(client, "/v1/agent/service/register", {"Name": "job", "Check": {"CheckID": "job-alive", "TTL": "2s"}})
    equal(passing(pool.servers[0], "job"), [], "nobody has said that it passes")
    put(client, "/v1/agent/check/pass/job-alive?note=fine")
    report.note("a TTL check is told that it passes: found", found_by(pool.servers, "job", ["job"]), "s", SLACK)
    report.note("it is not told in time: not found", found_by(pool.servers, "job", []), "s", 2 + SLACK)
    output = pool.servers[0].get("/v1/health/checks/job")[0]["Output"]
    check("TTL expired" in output, f"no word of that in {output!r}")
    put(client, "/v1/agent/service/deregister/job")


def is_maintained(report, pool, process):
    client = pool.clients[0]
    put(client, "/v1/agent/service/maintenance/web?enable=true&reason=repairs")
    report.note("a service in maintenance is not found", found_by(pool.servers, "web", []), "s", SLACK)
    put(client, "/v1/agent/service/maintenance/web?enable=false")
    found_by(pool.servers, "web", ["web"])
    put(client, "/v1/agent/maintenance?enable=true")
    report.note("nor is one on a node in maintenance", found_by(pool.servers, "web", []), "s", SLACK)
    put(client, "/v1/agent/maintenance?enable=false")
    found_by(pool.servers, "web", ["web"])


def is_not_taken(report, pool, process):
    client = pool.clients[0]
    script = {"Name": "s", "Check": {"Args": ["true"], "Interval": "10s"}}
    text = put(client, "/v1/agent/service/register", script, wanted=500)
    check("enable_script_checks" in text, f"a refusal that does not help: {text!r}")
    put(client, "/v1/agent/service/register", {"Name": ""}, wanted=400)
    equal(sorted(client.get("/v1/agent/services")), ["web"], "what runs there after refusals")


def is_repaired(report, pool, process):
    """Others write on the agent's node; the agent puts it right."""
    client, server = pool.clients[0], pool.servers[0]
    put(server, "/v1/catalog/deregister", {"Node": client.name, "ServiceID": "web"})
    stranger = {"Node": client.name, "Address": client.ip, "Service": {"Service": "stranger"}}
    put(server, "/v1/catalog/register", stranger)
    started = time.monotonic()
    eventually("what was removed is back", lambda: passing(server, "web") == ["web"], 3 * PATIENCE)
    eventually("what others added is gone", lambda: not server.get("/v1/health/service/stranger"), 3 * PATIENCE)
    report.note("what others changed in the catalog is put right", time.monotonic() - started, "s")


def ends(report, pool, process):
    client = pool.clients[0]
    put(client, "/v1/agent/service/deregister/web")
    report.note("a service that is deregistered is not found", found_by(pool.servers, "web", []), "s", SLACK)
    put(client, "/v1/agent/service/register", {"Name": "last"})
    found_by(pool.servers, "last", ["last"])
    client.command("leave")

    def look():
        if pool.servers[0].get(f"/v1/catalog/node/{client.name}") is not None:
            raise NotYet("its node is there")
        return True

    eventually("an agent that left is not in the catalog", look)
    equal(passing(pool.servers[0], "last"), [], "nor is what ran on it")
