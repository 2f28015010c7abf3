#!/usr/bin/env python3
"""Asks Lictor's DNS and the real Consul's the same, and compares the answers: code, flags, counts, and every record with its TTL, in any order.

Both get the same catalog, through the HTTP API. What differs on purpose is in INTENDED, each with its reason, and told in DIFFERENCES.md. The exit
code is 1 if anything else differs, or if something in INTENDED no longer does.

    dns.py                                                    starts both; the real binary is in PATH, or named by $CONSUL
    dns.py CONSUL_DNS CONSUL_HTTP LICTOR_DNS LICTOR_HTTP      four times HOST:PORT; both agents are named vm, at 127.0.0.1, with -alt-domain alt.test
    dns.py --catalog                                          the catalog, for the example of lictor-dns; LICTOR_HTTP is - then
"""

import argparse
import json
import os
import sys
import urllib.request
from typing import Callable, NamedTuple

import dns_wire as wire
from harness import Scene, consul, eventually, lictor

SIZES = (512, 513, 600, 1232, 1400, 4096)


def registrations():
    """What both catalogs hold, as `PUT /v1/catalog/register` takes it."""
    found = []

    def put(node, address, service=None, checks=(), **more):
        body = {"Node": node, "Address": address, **more}
        if service:
            body["Service"] = service
        if checks:
            body["Checks"] = list(checks)
        found.append(body)

    for number in range(60):
        address = f"10.1.0.{number + 1}"
        put(f"n{number:02}", address, {"Service": "many", "Port": 8000 + number})
        put(f"n{number:02}", address, {"Service": "addressed", "Address": f"10.2.0.{number + 1}", "Port": 8000 + number})
    for number in range(3):
        put(f"n{number:02}", f"10.1.0.{number + 1}", {"Service": "few", "Port": 80})
    meta = {"k1": "v1", "rfc1035-x": "raw text", "a=b": "c", "`": "="}
    put("Foo", "10.9.0.1", {"Service": "web", "Port": 80, "Tags": ["v1", "Primary", "v1.2.3", "udp"]}, NodeMeta=meta)
    put("bar", "10.9.0.2", {"Service": "web", "Port": 81, "Address": "10.9.1.2", "Weights": {"Passing": 5, "Warning": 2}})
    put("bar", "10.9.0.2", {"Service": "web", "ID": "web-2", "Port": 82, "Address": "10.9.1.2"})
    put("long", "10.9.0.4", NodeMeta={"long": "x" * 300})
    put("with.dot", "10.9.0.3", {"Service": "Upper", "Port": 1})
    put("six", "fd00::1", {"Service": "six", "Port": 81})
    put("six", "fd00::1", {"Service": "mixed", "Port": 81})
    put("bar", "10.9.0.2", {"Service": "mixed", "Port": 82})
    put("six", "fd00::1", {"Service": "six-own", "Address": "fd00::2", "Port": 0})
    put("hosty", "example.com", {"Service": "hosted", "Port": 81})
    put("bar", "10.9.0.2", {"Service": "own-host", "Address": "host.example.com", "Port": 9})
    put("inhost", "foo.node.consul", {"Service": "inhosted", "Port": 81})
    put("chain", "inhost.node.consul")
    put("big", "10.9.0.9", {"Service": "big", "Port": 1}, NodeMeta={f"key{number:02}": "x" * 100 for number in range(40)})
    put("bar", "10.9.0.2", {"Service": "web-proxy", "Kind": "connect-proxy", "Port": 21000, "Proxy": {"DestinationServiceName": "web"}})

    def check(status, service=""):
        return {"Node": "", "CheckID": f"c{service}", "Name": "c", "Status": status, "ServiceID": service}

    for status in ("passing", "warning", "critical"):
        node = f"is-{status}"
        service = {"Service": "checked", "Port": 5, "Weights": {"Passing": 7, "Warning": 3}}
        put(node, f"10.8.0.{len(status)}", service, [{**check(status, "checked"), "Node": node}])
    put("ill", "10.8.1.1", {"Service": "ill", "Port": 5}, [{**check("critical"), "Node": "ill"}])
    return found


class Asked(NamedTuple):
    """One query: of the corpus, and how it goes over the wire."""

    label: str
    name: str
    kind: str
    data: bytes
    tcp: bool = False
    size: int | None = None


KINDS = ("A", "AAAA", "SRV", "TXT", "ANY", "CNAME", "MX", "PTR", "SOA", "NS")
NODES = ("foo.node.consul", "FOO.Node.CONSUL", "foo.node.dc1.consul", "with.dot.node.consul", "six.node.consul", "hosty.node.consul", "inhost.node.consul",
         "chain.node.consul", "long.node.consul", "nope.node.consul", "foo.node.dc9.consul", "ill.node.consul")
SERVICES = ("web.service.consul", "Web.SERVICE.consul", "web.service.dc1.consul", "v1.web.service.consul", "PRIMARY.web.service.consul",
            "v1.2.3.web.service.consul", "x.web.service.consul", "_web._tcp.service.consul", "_web._v1.service.consul", "_web._udp.service.consul",
            "_web._nope.service.consul", "few.service.consul", "upper.service.consul", "six.service.consul", "mixed.service.consul", "six-own.service.consul",
            "hosted.service.consul", "own-host.service.consul", "inhosted.service.consul", "checked.service.consul", "ill.service.consul",
            "nope.service.consul", "web.service.dc9.consul", "_web.service.consul", "web.connect.consul", "few.connect.consul", "web.ingress.consul",
            "nope.query.consul", "_a._b._c.service.consul")
SHORT = ("_web._tcp.consul", "_web._tcp.dc1.consul")
ADDRESSES = ("7f000001.addr.consul", "7F000001.addr.dc9.consul", "fd000000000000000000000000000001.addr.consul", "zz000001.addr.consul",
             "x.7f000001.addr.consul", "7f00.addr.consul")
BRANCHES = ("consul", "node.consul", "service.consul", "query.consul", "addr.consul", "dc1.consul", "service.dc1.consul")
MISSING = ("bogus.consul", "ns.consul", "dc9.consul", "a.b.dc1.consul", "web.service.a.dc1.consul", "web.virtual.consul")
REVERSE = ("1.0.9.10.in-addr.arpa", "2.1.9.10.in-addr.arpa", "1.0.1.10.IN-ADDR.arpa", "9.9.9.9.in-addr.arpa", "0.9.10.in-addr.arpa",
           "1." + "0." * 29 + "d.f.ip6.arpa", "1.2.ip6.arpa")
FOREIGN = ("example.com", "xconsul", "consul.example", "arpa", "")
ALT = ("foo.node.alt.test", "web.service.alt.test", "nope.node.alt.test", "_web._tcp.service.alt.test")


def corpus():
    found = []

    def ask(name, kind, tcp=False, size=None, label="", **more):
        how = "tcp" if tcp else f"udp {size or '-'}"
        found.append(Asked(f"{name or '.'} {kind} {how} {label}".strip(), name, str(kind), wire.query(name, kind, size=size, **more), tcp, size))

    for name in NODES + SERVICES + SHORT + ADDRESSES + MISSING + FOREIGN + ALT:
        for kind in KINDS:
            ask(name, kind)
    for name in BRANCHES:
        for kind in ("A", "SRV", "TXT", "SOA", "NS"):
            ask(name, kind)
    for name in REVERSE:
        for kind in ("PTR", "ANY", "A", "SOA"):
            ask(name, kind)
    for name in ("many.service.consul", "addressed.service.consul", "few.service.consul"):
        for kind in ("A", "SRV", "ANY"):
            ask(name, kind)
            ask(name, kind, tcp=True)
            for size in SIZES:
                ask(name, kind, size=size)
                ask(name, kind, size=size, tcp=True)
    for name in ("web.service.consul", "foo.node.consul", "nope.service.consul", "example.com", "1.0.9.10.in-addr.arpa", "consul"):
        for kind in ("A", "SRV", "SOA"):
            ask(name, kind, tcp=True)
            ask(name, kind, size=1232)
            ask(name, kind, size=1232, label="subnet", subnet="192.0.2.0/24")
    for name in ("big.node.consul", "big.service.consul"):
        for kind in ("A", "TXT", "SRV", "ANY"):
            ask(name, kind)
            ask(name, kind, size=4096)
            ask(name, kind, tcp=True)
    for cls in (0, 3, 4, 254, 255):
        ask("foo.node.consul", "A", cls=cls, label=f"class {cls}")
        ask("example.com", "A", cls=cls, label=f"class {cls}")
    for flags in (0x0000, 0x0110, 0x0120, 0x0150, 0x0300, 0x0500, 0x0180, 0x0105):
        ask("few.service.consul", "A", flags=flags, label=f"flags {flags:04x}")
    for opcode in range(1, 7):
        ask("few.service.consul", "A", flags=0x0100 | opcode << 11, label=f"opcode {opcode}")
    for number in (0, 13, 43, 48, 65, 999, 65535):
        ask("few.service.consul", number)
        ask("foo.node.consul", number)
    for kind in ("AXFR", "IXFR"):
        ask("few.service.consul", kind)
        ask("foo.node.consul", kind, tcp=True)
    ask("few.service.consul", "A", size=1232, version=1, label="EDNS 1")
    ask("few.service.consul", "A", size=1232, option=(10, b"12345678"), label="cookie")
    ask("few.service.consul", "A", size=1232, subnet="2001:db8::/32", label="subnet")
    ask("few.service.consul", "A", size=100)
    good = wire.query("few.service.consul", "A")
    bad = {
        "an answer": good[:2] + b"\x81" + good[3:],
        "two questions": good[:5] + b"\2" + good[6:] + good[12:],
        "no question": good[:5] + b"\0" + good[6:],
        "one question that is not there": good[:12],
        "a name that is not whole": good[:20],
        "no type": good[:-4],
        "half a header": good[:6],
        "nothing": b"",
        "a pointer to itself": good[:12] + b"\xc0\x0c\0\1\0\1",
        "a pointer forward": good[:12] + b"\xc0\x40\0\1\0\1",
        "a label of 64 bytes": good[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        "a name of 256 bytes": good[:12] + (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"b" * 62 + b"\0\0\1\0\1",
    }
    for label, data in bad.items():
        found.append(Asked(f"({label})", "", "", data))
    return found


class Intended(NamedTuple):
    """Queries whose answers differ on purpose; DIFFERENCES.md says more about each."""

    why: str
    is_meant: Callable


def of(names, kinds=None):
    return lambda asked: asked.name in names and (kinds is None or asked.kind in kinds) and "flags" not in asked.label


def is_node(asked):
    return ".node." in asked.name.lower()


NUMBERS = {"0", "13", "43", "48", "65", "999", "65535"}
OTHERS = {"TXT", "MX", "PTR"} | NUMBERS
ALIASED = ("hosted.service.consul", "own-host.service.consul", "inhosted.service.consul", "hosty.node.consul", "inhost.node.consul", "chain.node.consul")
INTENDED = [
    Intended("the second domain answers in its own name", lambda asked: asked.name.endswith("alt.test")),
    Intended("zones are not handed over", lambda asked: asked.kind == "IXFR"),
    Intended("who is an alias is one for every kind of address, and for nothing else", of(ALIASED)),
    Intended("nodes that are not there", lambda asked: is_node(asked) and asked.kind not in ("A", "AAAA", "ANY", "TXT", "SOA", "NS", "AXFR")),
    Intended("nothing of a kind about a node", lambda asked: is_node(asked) and asked.kind in ("A", "AAAA", "TXT") and "big" not in asked.name),
    Intended("services have no texts", lambda asked: asked.kind == "TXT" and asked.name in SERVICES),
    Intended("names that others end in", lambda asked: asked.name == "_web.service.consul" or of(BRANCHES, {"A", "SRV", "TXT"})(asked)),
    Intended("the short form of RFC 2782", lambda asked: asked.name in SHORT and asked.kind != "SRV"),
    Intended("addresses have addresses", of(ADDRESSES)),
    Intended("addresses lead to names only", lambda asked: asked.name in REVERSE and asked.kind != "PTR" or asked.name.endswith("arpa") and asked.name not in REVERSE),
    Intended("no recursion is offered where there is none", of(REVERSE)),
    Intended("much metadata", lambda asked: asked.name.startswith("big.")),
    Intended("long metadata", lambda asked: asked.name.startswith("long.")),
    Intended("the letters of names within the domain", lambda asked: asked.name == "FOO.Node.CONSUL" and asked.kind in ("SOA", "NS")),
    Intended("the last byte", lambda asked: asked.name.startswith("addressed.") and asked.size == 513),
    Intended("refusals with EDNS", lambda asked: asked.name == "example.com" and asked.size is not None),
    Intended("opcodes", lambda asked: "opcode" in asked.label),
    Intended("small sizes", lambda asked: asked.size == 100),
    Intended("what is no message", lambda asked: asked.label.startswith("(")),
]


class Server(NamedTuple):
    """Who is asked, and what its agent calls itself."""

    dns: tuple
    node: str
    ip: str

    def neutral(self, message):
        """The same, with the agent's own name and address as everybody's."""
        return message.replace(f"{self.node}.node", "own.node").replace(f"'{self.ip}'", "'own'")


def said(server, asked):
    """What a server says, in a form to compare: `None` if nothing."""
    exchange = wire.over_tcp if asked.tcp else wire.over_udp
    # Silence is only expected of what is no query.
    data = exchange(server.dns, asked.data, 1 if asked.label.startswith("(") else 10)
    if data is None:
        return None
    message = wire.read(data)
    # Of many, which ones are named is drawn at random: then only how many there are can be compared.
    drawn = asked.name.split(".")[0] in ("many", "addressed") and len(message.answers) < 60
    if drawn:
        sections = [sorted({(record.owner, record.kind, record.ttl) for record in message.answers}), len(message.answers), len(message.additional)]
    else:
        sections = [sorted(message.answers), sorted(message.authority), sorted(message.additional)]
    return server.neutral(str((message.code, message.flags, message.question, message.opt, *sections)))


def register(http, catalog):
    for body in catalog:
        request = urllib.request.Request(f"http://{http}/v1/catalog/register", json.dumps(body).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def own():
    """What an agent registers of itself."""
    return {"Node": "vm", "Address": "127.0.0.1", "Service": {"Service": "consul", "Port": 8300}, "NodeMeta": {"consul-network-segment": ""}}


def compare(theirs, ours, verbose):
    """Asks both everything, and says what differs. Whether all is as it should be."""
    queries = corpus()
    differing, meant, idle = 0, 0, {entry.why for entry in INTENDED}
    for asked in queries:
        answers = []
        for server in (theirs, ours):
            try:
                answers.append(said(server, asked))
            except (wire.Bad, OSError) as error:
                answers.append(f"{type(error).__name__}: {error}")
        if answers[0] == answers[1]:
            continue
        why = next((entry.why for entry in INTENDED if entry.is_meant(asked)), None)
        if why is None:
            differing += 1
        else:
            meant += 1
            idle.discard(why)
        if why is None or verbose:
            print(f"{asked.label}{f'  [{why}]' if why else ''}\n  consul: {answers[0]}\n  lictor: {answers[1]}")
    for why in sorted(idle):
        print(f"nothing differs any more: {why}")
    same = len(queries) - differing - meant
    print(f"dns: {len(queries)} queries: {same} with the same answer, {meant} that differ on purpose, {differing} that differ")
    return not differing and not idle


def with_agents(verbose):
    """Compares agents of its own."""
    real = consul()
    if real is None:
        print("dns: left out, since there is no Consul to compare with: put it into PATH, or name it in $CONSUL")
        return True
    with Scene() as scene:
        path = os.path.join(scene.dir, "dns.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"alt_domain": "alt.test"}, file)
        servers = []
        for host, binary in ((1, real), (2, lictor())):
            agent = scene.agent(binary, host, ["-dev", "-config-file", path]).wait_leader()
            register(f"{agent.ip}:8500", registrations())
            server = Server((agent.ip, 8600), agent.name, agent.ip)
            # What an agent says of itself comes a moment later.
            ready = Asked("", "", "", wire.query("consul", "NS"))
            eventually(f"{agent.name} serves its domain", lambda server=server: ".node.dc1.consul" in str(said(server, ready)))
            servers.append(server)
        return compare(*servers, verbose)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("addresses", nargs="*")
    parser.add_argument("--catalog", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the differences on purpose too")
    arguments = parser.parse_args()
    if arguments.catalog:
        json.dump([own(), *registrations()], sys.stdout, indent=1)
        return 0
    if not arguments.addresses:
        return 0 if with_agents(arguments.verbose) else 1
    if len(arguments.addresses) != 4:
        parser.error("no address is wanted, or four")
    consul_dns, consul_http, lictor_dns, lictor_http = arguments.addresses
    for http in (consul_http, lictor_http):
        if http != "-":
            register(http, registrations())
    theirs, ours = (Server(address(dns), "vm", "127.0.0.1") for dns in (consul_dns, lictor_dns))
    return 0 if compare(theirs, ours, arguments.verbose) else 1


if __name__ == "__main__":
    sys.exit(main())
