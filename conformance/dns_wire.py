"""DNS messages: just enough to ask and to compare, with no library, so that nothing mends what is wrong with an answer."""

import ipaddress
import socket
import struct
from typing import NamedTuple

TYPES = {
    "A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "OPT": 41, "IXFR": 251, "AXFR": 252, "ANY": 255,
}
NAMES = {number: name for name, number in TYPES.items()}
CODES = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]
ID = 0x1234


class Bad(Exception):
    """A message that is none."""


class Record(NamedTuple):
    owner: str
    kind: str
    ttl: int
    data: str


class Message(NamedTuple):
    code: str
    flags: str
    question: tuple
    answers: list
    authority: list
    additional: list
    opt: tuple
    size: int


def name(text):
    labels = [label for label in text.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in labels) + b"\0"


def query(text, kind="A", *, size=None, subnet=None, flags=0x0100, cls=1, version=0, option=None):
    """A query; with `size` it has an OPT record."""
    number = TYPES[kind] if isinstance(kind, str) else kind
    head = struct.pack("!6H", ID, flags, 1, 0, 0, 1 if size is not None else 0)
    body = name(text) + struct.pack("!HH", number, cls)
    if size is not None:
        options = b""
        if subnet:
            net = ipaddress.ip_network(subnet)
            address = net.network_address.packed[: (net.prefixlen + 7) // 8]
            data = struct.pack("!HBB", 1 if net.version == 4 else 2, net.prefixlen, 0) + address
            options += struct.pack("!HH", 8, len(data)) + data
        if option:
            options += struct.pack("!HH", option[0], len(option[1])) + option[1]
        body += b"\0" + struct.pack("!HHIH", 41, size, version << 16, len(options)) + options
    return head + body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Bad("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, form):
        return struct.unpack("!" + form, self.take(struct.calcsize("!" + form)))

    def name(self):
        labels, at, back, hops = [], self.at, None, 0
        while True:
            if at >= len(self.data):
                raise Bad("a name ends too early")
            length = self.data[at]
            if length >= 0xC0:
                back = at + 2 if back is None else back
                target = (length & 0x3F) << 8 | self.data[at + 1]
                hops += 1
                if target >= at or hops > 20:
                    raise Bad("a pointer does not point back")
                at = target
                continue
            at += 1
            if not length:
                break
            labels.append(self.data[at : at + length].decode("latin-1"))
            at += length
        self.at = at if back is None else back
        return ".".join(labels) + "."

    def record(self):
        owner = self.name()
        kind, cls, ttl, length = self.numbers("HHIH")
        end = self.at + length
        if kind == TYPES["OPT"]:
            data = (cls, ttl, self.take(length).hex())
        elif kind == TYPES["A"] or kind == TYPES["AAAA"]:
            data = str(ipaddress.ip_address(self.take(length)))
        elif kind in (TYPES["NS"], TYPES["CNAME"], TYPES["PTR"]):
            data = self.name()
        elif kind == TYPES["SRV"]:
            data = "{} {} {} ".format(*self.numbers("HHH")) + self.name()
        elif kind == TYPES["TXT"]:
            strings = []
            while self.at < end:
                strings.append(self.take(self.take(1)[0]).decode("latin-1"))
            data = repr(strings)
        elif kind == TYPES["SOA"]:
            names = f"{self.name()} {self.name()}"
            # The serial number is the time.
            data = names + " {} {} {} {}".format(*self.numbers("5I")[1:])
        else:
            data = self.take(length).hex()
        if self.at != end:
            raise Bad("a record is not as long as it says")
        if kind != TYPES["OPT"] and cls != 1:
            raise Bad(f"a record of class {cls}")
        return Record(owner, NAMES.get(kind, str(kind)), ttl, data)


def read(data):
    """Reads an answer; `Bad` if it is none to a query from here."""
    reader = Reader(data)
    ident, flags, questions, *counts = reader.numbers("6H")
    if ident != ID or not flags & 0x8000:
        raise Bad("it is no answer to the query")
    question = ()
    if questions:
        question = (reader.name(), *reader.numbers("HH"))
    sections = [[reader.record() for _ in range(count)] for count in counts]
    if reader.at != len(data):
        raise Bad("there is something behind it")
    opt = tuple(record.data for record in sections[2] if record.kind == "OPT")
    sections[2] = [record for record in sections[2] if record.kind != "OPT"]
    known = {0x0400: "aa", 0x0200: "tc", 0x0100: "rd", 0x0080: "ra", 0x0020: "ad", 0x0010: "cd"}
    said = " ".join(word for bit, word in known.items() if flags & bit)
    code = flags & 0xF
    return Message(CODES[code] if code < len(CODES) else str(code), said, question, *sections, opt, len(data))


def over_udp(server, data, patience):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(patience)
        sock.connect(server)
        sock.send(data)
        try:
            return sock.recv(65535)
        except TimeoutError:
            return None


def over_tcp(server, data, patience):
    with socket.create_connection(server, patience) as sock:
        sock.sendall(struct.pack("!H", len(data)) + data)
        answer = b""
        while len(answer) < 2 or len(answer) < 2 + struct.unpack("!H", answer[:2])[0]:
            try:
                more = sock.recv(65535)
            except TimeoutError:
                return None
            if not more:
                return None
            answer += more
        return answer[2:]
