"""A network of its own for agents: a namespace for each, on one bridge, and links that can be cut.

All of it is within namespaces that the script makes for itself (of the network, of mounts and of processes): the machine's own
network is not touched, and everything is gone when the script ends, however it ends. That takes root, `unshare` of util-linux and
`ip` of iproute2.
"""

import os
import subprocess
import sys

from harness import Scene

INSIDE = "LICTOR_CONFORMANCE_INSIDE"
# A hardware address that nobody has: what is sent there gets lost without a word, as on a wire that is cut.
NOBODY = "02:00:00:00:00:01"


def unavailable():
    """Why there can be no such network here; None if there can."""
    try:
        done = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return done.stderr.strip() or None if done.returncode != 0 else None


def enter():
    """Runs this script again, inside; returns there."""
    if INSIDE in os.environ:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        batch(None, ["link set lo up"])
        return
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvpe("unshare", ["unshare", *namespaces, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def batch(namespace, commands):
    """Runs many commands of `ip` at once."""
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True, stdout=subprocess.DEVNULL)


class Lab(Scene):
    """The network. Agents talk to each other on 10.77.0.0/16, and their APIs are on 10.78.0.0/16, where nothing is ever cut."""

    def __init__(self):
        super().__init__()
        self.hosts, self.cuts = set(), set()
        bridges = []
        for bridge in ("peers", "apis"):
            bridges += [f"link add {bridge} type bridge", f"link set {bridge} up"]
        batch(None, [*bridges, "address add 10.78.255.254/16 dev apis"])

    def __exit__(self, kind, error, trace):
        super().__exit__(kind, error, trace)
        for host in self.hosts:
            batch(None, [f"netns delete n{host}"])
        batch(None, ["link delete peers", "link delete apis"])

    def ip(self, host):
        return f"10.77.0.{host}"

    def api_ip(self, host):
        return f"10.78.0.{host}"

    def prefix(self, host):
        if host not in self.hosts:
            self.hosts.add(host)
            self.place(host)
        return ["nsenter", f"--net=/run/netns/n{host}"]

    def place(self, host):
        """Makes the host's namespace, and its two links."""
        name = f"n{host}"
        batch(None, [f"netns add {name}"])
        for bridge, address in (("peers", self.ip(host)), ("apis", self.api_ip(host))):
            outside = f"{bridge}-{host}"
            batch(
                None,
                [
                    f"link add {outside} type veth peer name {bridge} netns {name}",
                    f"link set {outside} master {bridge} up",
                ],
            )
            batch(name, [f"address add {address}/16 dev {bridge}", f"link set {bridge} up"])
        batch(name, ["link set lo up"])

    def cut_one_way(self, senders, receivers):
        """From now on nothing that `senders` send arrives at `receivers`. Both are agents."""
        for sender in senders:
            lost = {receiver.host for receiver in receivers} - {sender.host}
            commands = [f"neighbour replace {self.ip(host)} lladdr {NOBODY} dev peers nud permanent" for host in lost]
            batch(f"n{sender.host}", commands)
            self.cuts |= {(sender.host, host) for host in lost}

    def partition(self, *groups):
        """From now on nothing gets from one group of agents into another."""
        for group in groups:
            self.cut_one_way(group, [agent for other in groups if other is not group for agent in other])

    def heal(self):
        """Everything arrives again."""
        for sender, receiver in self.cuts:
            batch(f"n{sender}", [f"neighbour delete {self.ip(receiver)} dev peers"])
        self.cuts.clear()
