#!/usr/bin/env python3
"""Programs that find services by name: dig; dnsmasq and unbound, which forward; HAProxy, which keeps its servers by SRV records.

Each is Debian's, and left out, which is said, if it is not in PATH.
"""

import json
import os
import shutil
import socket
import subprocess
import sys

from harness import NotYet, Scene, check, equal, eventually, http, lictor
from services import Process, put


def missing(*programs):
    """Those that are not there. Debian keeps daemons where users do not look."""
    return [name for name in programs if path(name) is None]


def path(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def dig(server, port, name, kind, *more):
    """The lines of the short answer, sorted."""
    words = [path("dig"), f"@{server}", "-p", str(port), "+short", "+time=5", "+tries=2", *more, name, kind]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise NotYet(f"dig {name} {kind}: {done.stdout}{done.stderr}")
    return sorted(line for line in done.stdout.splitlines() if not line.startswith(";"))


class Daemon:
    """A program that runs beside. A context manager."""

    def __init__(self, scene, name, *words):
        self.log = open(os.path.join(scene.dir, f"{name}.log"), "wb")
        self.process = subprocess.Popen([path(name), *words], stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()


def by_dig(scene, agent):
    """Up and down, by UDP and TCP, with and without EDNS, in the reverse direction."""
    name = "web.service.consul"
    for more in ((), ("+tcp",), ("+noedns",), ("+bufsize=4096",)):
        equal(dig(agent.ip, 8600, name, "A", *more), [scene.ip(101), scene.ip(102)], f"addresses, {more}")
    servers = dig(agent.ip, 8600, "_web._tcp.service.consul", "SRV")
    equal([line.split()[2] for line in servers], ["8080", "8080"], "ports")
    equal(dig(agent.ip, 8600, f"{agent.name}.node.consul", "A"), [agent.ip], "a node")
    turned = ".".join(reversed(agent.ip.split("."))) + ".in-addr.arpa"
    equal(dig(agent.ip, 8600, turned, "PTR"), [f"{agent.name}.node.dc1.consul."], "an address")
    equal(dig(agent.ip, 8600, "v1.web.service.dc1.consul", "A"), [scene.ip(101)], "a tag")


def followed(scene, agent, ask):
    """Whether what `ask` gives of the service's addresses follows it down and up again."""
    both = [scene.ip(101), scene.ip(102)]
    eventually("it finds both", lambda: ask() == both)
    put(agent, "/v1/agent/check/fail/service:web-2")
    eventually("it finds the one that is well", lambda: ask() == both[:1])
    put(agent, "/v1/agent/check/pass/service:web-2")
    eventually("it finds both again", lambda: ask() == both)


def by_dnsmasq(scene, agent):
    ip = scene.ip(11)
    words = ["-d", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={ip}", "-p", "5353"]
    with Daemon(scene, "dnsmasq", *words, f"--server=/consul/{agent.ip}#8600", f"--server=/127.in-addr.arpa/{agent.ip}#8600"):
        followed(scene, agent, lambda: dig(ip, 5353, "web.service.consul", "A"))
        servers = dig(ip, 5353, "web.service.consul", "SRV")
        equal(len(servers), 2, "servers through dnsmasq")


def by_unbound(scene, agent):
    ip = scene.ip(12)
    configuration = os.path.join(scene.dir, "unbound.conf")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(f"""
server:
  interface: {ip}
  port: 5354
  username: ""
  chroot: ""
  directory: "{scene.dir}"
  pidfile: "{scene.dir}/unbound.pid"
  use-syslog: no
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  domain-insecure: "consul"
  module-config: "iterator"
forward-zone:
  name: "consul"
  forward-addr: {agent.ip}@8600
""")
    with Daemon(scene, "unbound", "-d", "-c", configuration):
        followed(scene, agent, lambda: dig(ip, 5354, "web.service.consul", "A"))
        equal(len(dig(ip, 5354, "web.service.consul", "SRV")), 2, "servers through unbound")


def by_haproxy(scene, agent):
    """Requests through HAProxy reach whichever servers the service has, and nobody else."""
    ip = scene.ip(13)
    configuration, control = os.path.join(scene.dir, "haproxy.cfg"), os.path.join(scene.dir, "haproxy.sock")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(f"""
global
  stats socket {control} level admin
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
resolvers names
  nameserver agent {agent.ip}:8600
  accepted_payload_size 8192
  hold valid 1s
  timeout resolve 1s
  timeout retry 1s
frontend front
  bind {ip}:8000
  default_backend back
backend back
  balance roundrobin
  server-template web 5 _web._tcp.service.consul resolvers names resolve-opts allow-dup-ip resolve-prefer ipv4 check inter 200ms
""")

    def up():
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(control)
            asking.sendall(b"show stat json\n")
            said = b"".join(iter(lambda: asking.recv(65536), b""))
        rows = [{field["field"]["name"]: field["value"]["value"] for field in row} for row in json.loads(said)]
        found = [row["addr"] for row in rows if row.get("pxname") == "back" and row.get("status") == "UP" and row.get("addr")]
        return sorted(address.split(":")[0] for address in found)

    processes = [Process(scene.ip(host), 8080).start() for host in (101, 102)]
    try:
        with Daemon(scene, "haproxy", "-f", configuration, "-db"):
            followed(scene, agent, up)
            equal(http("GET", f"http://{ip}:8000/")[0], 200, "a request through HAProxy")
    finally:
        for process in processes:
            process.kill()


def main():
    with Scene() as scene:
        agent = scene.dev(lictor(), 1)
        for number, tags in ((1, ["v1"]), (2, [])):
            body = {"Name": "web", "ID": f"web-{number}", "Address": scene.ip(100 + number), "Port": 8080, "Tags": tags}
            put(agent, "/v1/agent/service/register", body | {"Check": {"TTL": "1h", "Status": "passing"}})
        eventually("both are found", lambda: len(agent.get("/v1/health/service/web?passing")) == 2)
        for step, programs in ((by_dig, ["dig"]), (by_dnsmasq, ["dig", "dnsmasq"]), (by_unbound, ["dig", "unbound"]), (by_haproxy, ["haproxy"])):
            lacking = missing(*programs)
            if lacking:
                print(f"resolvers: {step.__name__} left out, since there is no {' and no '.join(lacking)}")
                continue
            step(scene, agent)
            print(f"resolvers: {step.__name__}: it follows services up and down", flush=True)
            check(agent.is_running(), "the agent has ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
