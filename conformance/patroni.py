#!/usr/bin/env python3
"""Patroni keeps one leader among two PostgreSQL servers, through client agents, while Lictor's servers are killed.

Both are Debian's (patroni, python3-consul, postgresql), and left out, which is said, if they are not there. PostgreSQL does not run as root: then this
takes the user postgres.
"""

import glob
import json
import os
import pwd
import shutil
import subprocess
import sys
import time

from harness import NotYet, Scene, check, equal, eventually, http, lictor
from pool import Pool

NAME = "orders"
# How long Patroni's leader may be without its key, in seconds, and how often it looks.
TTL, LOOP = 20, 2

CONFIGURATION = """
scope: {name}
namespace: /service/
name: {node}
restapi:
  listen: {ip}:8008
  connect_address: {ip}:8008
consul:
  host: {agent}:8500
  register_service: true
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop}
    retry_timeout: 6
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
  initdb:
    - encoding: UTF8
    - locale: C
  pg_hba:
    - host all all 127.0.0.0/8 trust
    - host replication all 127.0.0.0/8 trust
postgresql:
  listen: {ip}:5432
  connect_address: {ip}:5432
  data_dir: {dir}/{node}
  bin_dir: {bin}
  pgpass: {dir}/{node}.pgpass
  authentication:
    superuser: {{username: postgres, password: secret}}
    replication: {{username: replicator, password: secret}}
  parameters:
    unix_socket_directories: '{dir}'
    fsync: 'off'
    shared_buffers: 16MB
"""


class Patroni:
    """A PostgreSQL server and what looks after it."""

    def __init__(self, scene, place, host, agent):
        self.scene, self.node, self.ip, self.place = scene, f"pg{host}", scene.ip(host), place
        self.configuration = os.path.join(place, f"{self.node}.yml")
        with open(self.configuration, "w", encoding="utf-8") as file:
            values = {"name": NAME, "node": self.node, "ip": self.ip, "agent": agent.ip, "dir": place, "bin": binaries()}
            file.write(CONFIGURATION.format(**values, ttl=TTL, loop=LOOP))
        self.process = None

    def start(self):
        words = [shutil.which("patroni"), self.configuration]
        if os.geteuid() == 0:
            words = [shutil.which("setpriv"), "--reuid=postgres", "--regid=postgres", "--init-groups", *words]
        with open(os.path.join(self.scene.dir, f"{self.node}.log"), "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.place, env={"PATH": os.environ["PATH"], "LANG": "C"})
        return self

    def leads(self):
        try:
            return http("GET", f"http://{self.ip}:8008/leader", timeout=5)[0] == 200
        except OSError:
            return False

    def kill(self):
        """With its PostgreSQL, as if the machine were gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        try:
            with open(os.path.join(self.place, self.node, "postmaster.pid"), encoding="utf-8") as file:
                os.kill(int(file.readline()), 3)
        except (OSError, ValueError):
            pass


def binaries():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return os.path.dirname(found[-1]) if found else None


def lacking():
    needed = [name for name in ("patroni", "setpriv") if shutil.which(name) is None]
    return needed + ([] if binaries() else ["postgresql"])


def leader(nodes):
    """The one that leads; NotYet without one. Two at a time are what must never be."""
    leading = [node for node in nodes if node.leads()]
    check(len(leading) <= 1, f"two lead: {[node.node for node in leading]}")
    if not leading:
        raise NotYet("nobody leads")
    return leading[0]


def steady(nodes, wanted, seconds):
    """The same one leads for that long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = [node.node for node in nodes if node.leads()]
        check(found == [wanted.node], f"{found} lead, and it was {wanted.node}")
        time.sleep(0.5)


def run(scene, place):
    pool = Pool(scene, lictor(), clients=2)
    pool.settle("the pool forms", {})
    pool.wait_ready()
    nodes = [Patroni(scene, place, 20 + at, agent).start() for at, agent in enumerate(pool.clients)]
    try:
        first = eventually("one leads", lambda: leader(nodes))
        print(f"patroni: {first.node} leads", flush=True)
        services = eventually("it is registered", lambda: pool.servers[0].get(f"/v1/health/service/{NAME}?passing&tag=master"))
        equal([one["Service"]["ID"] for one in services], [f"{NAME}/{first.node}"], "the service with the tag master")
        key = json.loads(pool.servers[1].call("GET", f"/v1/kv/service/{NAME}/leader")[2])[0]
        check(key.get("Session"), "the leader's key is not locked")
        for _ in range(2):
            victim = pool.leader()
            victim.kill()
            steady(nodes, first, TTL)
            victim.start()
            pool.settle("it is back", {})
            steady(nodes, first, 2 * LOOP)
        print(f"patroni: {first.node} leads on while servers are killed", flush=True)
        first.kill()
        started = time.monotonic()
        second = eventually("the other leads", lambda: leader([node for node in nodes if node is not first]))
        print(f"patroni: {first.node} is killed; {second.node} leads after {time.monotonic() - started:.1f} s", flush=True)
        first.start()
        steady([second], second, 3 * LOOP)
    except BaseException:
        for node in nodes:
            with open(os.path.join(scene.dir, f"{node.node}.log"), encoding="utf-8", errors="replace") as log:
                print(f"---- the log of {node.node}, its end ----", "".join(log.readlines()[-30:]), sep="\n")
        raise
    finally:
        for node in nodes:
            node.kill()


def main():
    missing = lacking()
    if missing:
        print(f"patroni: left out, since there is no {' and no '.join(missing)}")
        return 0
    with Scene() as scene:
        # PostgreSQL's user must get to its own, through a directory that is this user's alone.
        place = os.path.join(scene.dir, "pg")
        os.mkdir(place, 0o750)
        if os.geteuid() == 0:
            os.chmod(scene.dir, 0o711)
            user = pwd.getpwnam("postgres")
            os.chown(place, user.pw_uid, user.pw_gid)
        run(scene, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
