"""Agents on loopback addresses of their own: what all the scripts here share.

Every agent keeps its default ports, on an address 127.77.N.H that no other process uses. That takes a system whose
loopback interface answers on all of 127.0.0.0/8, as Linux's does.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Far longer than anything takes that goes well.
PATIENCE = 90
CLAIM_PORT = 7777


class Failed(Exception):
    """Something is not as it must be."""


class NotYet(Failed):
    """The same, but whoever waits looks again."""


def check(condition, what):
    """Like assert, but never compiled away."""
    if not condition:
        raise Failed(what)


def equal(found, wanted, what=""):
    check(found == wanted, f"{what}: found {found!r}, wanted {wanted!r}")


def lictor():
    """The binary to test: $LICTOR, else what cargo built last, optimized before not."""
    if "LICTOR" in os.environ:
        return os.environ["LICTOR"]
    for profile in ("release", "debug"):
        path = os.path.join(ROOT, "target", profile, "lictor")
        if os.access(path, os.X_OK):
            return path
    raise SystemExit("no lictor binary: build it with `cargo build --release -p lictor`, or set LICTOR to one")


def consul():
    """The real thing, for comparisons: $CONSUL, else what PATH says; None if there is none."""
    return os.environ.get("CONSUL") or shutil.which("consul")


def eventually(what, look, patience=PATIENCE):
    """Looks until there is something to see, and returns it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            seen = look()
            reason = "it is not so"
        except (OSError, ValueError, NotYet) as error:
            seen, reason = None, error
        if seen:
            return seen
        check(time.monotonic() < deadline, f"not within {patience} s: {what}: {reason}")
        time.sleep(0.02)


def http(method, url, body=None, timeout=30):
    """Status, headers and body of an answer with any status."""
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


class Scene:
    """A directory, and the addresses 127.77.N.1 to 127.77.N.254 for some N. A context manager: kills what it started."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="lictor-conformance-")
        self.agents = []
        for step in range(256):
            self.net = (os.getpid() + step) % 256
            self.claim = socket.socket()
            try:
                self.claim.bind((f"127.77.{self.net}.255", CLAIM_PORT))
                self.claim.listen()
                return
            except OSError:
                self.claim.close()
        raise Failed("none of 256 networks is free")

    def ip(self, host):
        return f"127.77.{self.net}.{host}"

    def api_ip(self, host):
        """Where the agent's API is, if not where its peers find it."""
        return self.ip(host)

    def prefix(self, _host):
        """What an agent's command line begins with."""
        return []

    def agent(self, binary, host, arguments):
        """A started agent."""
        agent = Agent(self, binary, host, arguments)
        self.agents.append(agent)
        agent.start()
        return agent

    def dev(self, binary, host):
        """A started `-dev` agent that answers."""
        return self.agent(binary, host, ["-dev"]).wait_leader()

    def single(self, binary, host):
        """A started server of its own that answers, without what `-dev` changes."""
        data = os.path.join(self.dir, f"data{host}")
        return self.agent(binary, host, ["-server", "-bootstrap-expect", "1", "-data-dir", data]).wait_leader()

    def cluster(self, binary, servers=3, config=None):
        """Started servers that are one cluster."""
        key = "IN5eLHKxzdBHjYtQpnFu+PRsmh0yJFd7NmMREW9JV4o="
        path = os.path.join(self.dir, "cluster.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config or {}, file)
        agents = []
        for host in range(1, servers + 1):
            arguments = ["-server", "-bootstrap-expect", str(servers), "-encrypt", key, "-config-file", path]
            arguments += ["-data-dir", os.path.join(self.dir, f"data{host}")]
            for other in range(1, servers + 1):
                arguments += ["-retry-join", self.ip(other)]
            agents.append(self.agent(binary, host, arguments))
        for agent in agents:
            agent.wait_leader()
        return agents

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for agent in self.agents:
            agent.kill()
            if kind is not None:
                print(f"---- the log of {agent.name}, its end ----")
                print("".join(agent.log_lines()[-40:]))
        self.claim.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Agent:
    """A process, its log, and the way to its API."""

    def __init__(self, scene, binary, host, arguments):
        self.name = f"n{host}"
        self.scene, self.binary = scene, binary
        self.move(host, arguments)
        self.env = {"HOME": scene.dir, "PATH": os.environ.get("PATH", ""), "XDG_STATE_HOME": f"{scene.dir}/state"}
        self.log_path = os.path.join(scene.dir, f"{self.name}.log")
        self.process = None

    def move(self, host, arguments):
        """From the next start on, it is somewhere else, with other arguments, and still goes by its name."""
        self.host, self.ip, api = host, self.scene.ip(host), self.scene.api_ip(host)
        self.url = f"http://{api}:8500"
        self.argv = [*self.scene.prefix(host), self.binary, "agent", "-node", self.name, "-bind", self.ip]
        self.argv += ["-client", api, *arguments]

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, env=self.env)

    def kill(self, how=signal.SIGKILL):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(PATIENCE)
            self.process = None

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, how):
        self.process.send_signal(how)

    def log_lines(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.readlines()

    def call(self, method, path, body=None, timeout=30):
        return http(method, self.url + path, body, timeout)

    def get(self, path, timeout=5):
        """What an endpoint says, which must be JSON; NotYet, if it says something else than 200."""
        status, _, body = self.call("GET", path, timeout=timeout)
        if status != 200:
            raise NotYet(f"{self.name}: GET {path}: {status} {body[:200]!r}")
        return json.loads(body)

    def command(self, *words):
        """The exit code and the output of `lictor <words>` against this agent."""
        env = {"PATH": os.environ.get("PATH", ""), "CONSUL_HTTP_ADDR": self.url}
        done = subprocess.run([self.binary, *words], capture_output=True, text=True, timeout=PATIENCE, env=env, check=False)
        return done.returncode, done.stdout, done.stderr

    def wait_leader(self):
        def look():
            check(self.process.poll() is None, f"{self.name} ended: {''.join(self.log_lines()[-10:])}")
            status, _, body = self.call("GET", "/v1/status/leader", timeout=5)
            return status == 200 and json.loads(body) != ""

        eventually(f"{self.name} knows a leader", look)
        # A leader that was just elected may not take writes yet.
        eventually(f"{self.name} reads", lambda: self.call("GET", "/v1/kv/?keys&consistent")[0] in (200, 404))
        return self
