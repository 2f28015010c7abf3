#!/usr/bin/env python3
"""Programs that find services by DNS, against an agent: dig, dnsmasq and unbound that pass names on, HAProxy that fills its backends from SRV records.

Each must follow a service whose instances come and go. What is not installed is left out, and said. The exit code is 0 if all went well.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys

import dns_wire as wire
from harness import Failed, Scene, check, equal, eventually, lictor

SERVICE = "_web._tcp.service.consul"


class Fleet:
    """The instances of one service, which come and go."""

    def __init__(self, agent):
        self.agent, self.ports = agent, set()

    def add(self, port):
        body = {"Node": f"w{port}", "Address": f"10.0.{port // 256}.{port % 256}", "Service": {"Service": "web", "Port": port}}
        self.put("register", body)
        self.ports.add(port)

    def remove(self, port):
        self.put("deregister", {"Node": f"w{port}"})
        self.ports.discard(port)

    def put(self, what, body):
        status, _, answer = self.agent.call("PUT", f"/v1/catalog/{what}", json.dumps(body).encode())
        equal((status, answer.strip()), (200, b"true"))


def ports(server, with_addresses=True):
    """The ports that a DNS server names. Resolvers need not say the addresses in the same answer; a forwarder has them as they came."""
    data = wire.over_udp(server, wire.query(SERVICE, "SRV", size=4096), 5)
    check(data is not None, "no answer")
    message = wire.read(data)
    glue = {record.owner.lower() for record in message.additional if record.kind == "A"}
    for record in message.answers:
        check(record.kind == "SRV", f"a {record.kind} record among services")
        check(not with_addresses or record.data.split()[3].lower() in glue, f"{record.data} leads nowhere")
    return {int(record.data.split()[2]) for record in message.answers}


def follows(what, look, fleet):
    """Whether a program follows instances that come and go."""
    for change in (lambda: fleet.add(8101), lambda: fleet.add(8102), lambda: fleet.remove(8101), lambda: fleet.remove(8102)):
        change()
        eventually(f"{what} knows {sorted(fleet.ports)}", lambda: look() == fleet.ports)


@contextlib.contextmanager
def program(scene, name, argv):
    """A running program, whose output is shown if something goes wrong."""
    path = os.path.join(scene.dir, f"{name}.log")
    with open(path, "wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=scene.dir)
    try:
        yield process
    except Exception:
        with open(path, encoding="utf-8", errors="replace") as log:
            print(f"---- what {name} said ----\n{log.read()[-4000:]}")
        raise
    finally:
        process.kill()
        process.wait()


def dig(scene, agent, fleet):
    def look(*more):
        done = subprocess.run(
            ["dig", f"@{agent.ip}", "-p", "8600", "+short", *more, SERVICE, "SRV"], capture_output=True, text=True, timeout=30, check=True
        )
        return {int(line.split()[2]) for line in done.stdout.splitlines()}

    for more in (["+tcp"], ["+bufsize=1232"], ["+subnet=192.0.2.0/24"], ["+nocookie", "+tcp", "+keepopen"]):
        follows("dig", lambda more=more: look(*more), fleet)
    axfr = subprocess.run(["dig", f"@{agent.ip}", "-p", "8600", "consul", "AXFR"], capture_output=True, text=True, timeout=30, check=False)
    check("Transfer failed" in axfr.stdout, axfr.stdout)
    reverse = subprocess.run(["dig", f"@{agent.ip}", "-p", "8600", "+short", "-x", agent.ip], capture_output=True, text=True, timeout=30, check=True)
    equal(reverse.stdout.strip(), f"{agent.name}.node.dc1.consul.")


def dnsmasq(scene, agent, fleet):
    at = (scene.ip(10), 5353)
    argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", f"--port={at[1]}"]
    argv += [f"--listen-address={at[0]}", "--bind-interfaces", f"--server=/consul/{agent.ip}#8600", f"--rev-server=127.0.0.0/8,{agent.ip}#8600"]
    with program(scene, "dnsmasq", argv):
        eventually("dnsmasq answers", lambda: ports(at) == fleet.ports)
        follows("dnsmasq", lambda: ports(at), fleet)
        a = wire.read(wire.over_udp(at, wire.query(f"{agent.name}.node.consul", "A"), 5))
        equal([record.data for record in a.answers if record.kind == "A"], [agent.ip])
        missing = wire.read(wire.over_udp(at, wire.query("nope.service.consul", "A"), 5))
        equal(missing.code, "NXDOMAIN")


def unbound(scene, agent, fleet):
    at = (scene.ip(11), 5354)
    path = os.path.join(scene.dir, "unbound.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"""
server:
  interface: {at[0]}@{at[1]}
  chroot: ""
  username: ""
  directory: "{scene.dir}"
  pidfile: "{scene.dir}/unbound.pid"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  qname-minimisation: yes
  qname-minimisation-strict: yes
  harden-below-nxdomain: yes
  module-config: "iterator"
stub-zone:
  name: "consul"
  stub-addr: {agent.ip}@8600
remote-control:
  control-enable: no
""")
    with program(scene, "unbound", ["unbound", "-d", "-c", path]):
        eventually("unbound answers", lambda: ports(at, with_addresses=False) == fleet.ports)
        follows("unbound", lambda: ports(at, with_addresses=False), fleet)
        a = wire.read(wire.over_udp(at, wire.query("w8100.node.consul", "A"), 5))
        equal([record.data for record in a.answers], ["10.0.31.164"])
        missing = wire.read(wire.over_udp(at, wire.query("nope.service.consul", "A"), 5))
        equal(missing.code, "NXDOMAIN")


def haproxy(scene, agent, fleet):
    path, stats = os.path.join(scene.dir, "haproxy.cfg"), os.path.join(scene.dir, "haproxy.sock")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"""
global
  stats socket {stats} level admin
defaults
  mode tcp
  timeout connect 1s
  timeout client 1s
  timeout server 1s
resolvers lictor
  nameserver agent {agent.ip}:8600
  accepted_payload_size 8192
  hold valid 100ms
  hold obsolete 100ms
  timeout resolve 100ms
  timeout retry 100ms
backend web
  server-template web 1-8 {SERVICE} resolvers lictor resolve-prefer ipv4 init-addr none
frontend in
  bind {scene.ip(12)}:8080
  default_backend web
""")

    def look():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(stats)
            sock.sendall(b"show servers state web\n")
            said = b""
            while more := sock.recv(65536):
                said += more
        lines = [line.split() for line in said.decode().splitlines()[2:] if line.strip()]
        # Address, operational state and port.
        return {int(line[18]) for line in lines if line[4] != "-" and line[18] != "0" and line[5] == "2"}

    with program(scene, "haproxy", ["haproxy", "-db", "-f", path]):
        eventually("HAProxy has its servers", lambda: look() == fleet.ports)
        follows("HAProxy", look, fleet)


def main():
    failed = []
    for run in (dig, dnsmasq, unbound, haproxy):
        if shutil.which(run.__name__) is None:
            print(f"resolvers: {run.__name__} is left out, since it is not installed")
            continue
        try:
            with Scene() as scene:
                agent = scene.dev(lictor(), 1)
                fleet = Fleet(agent)
                fleet.add(8100)
                run(scene, agent, fleet)
            print(f"resolvers: {run.__name__} finds what there is")
        except (Failed, wire.Bad, subprocess.SubprocessError) as error:
            print(f"resolvers: {run.__name__} FAILED: {error}")
            failed.append(run.__name__)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
