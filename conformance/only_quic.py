#!/usr/bin/env python3
"""Captures what three servers say to each other, and checks that all of it is QUIC version 1, and that none of it is TCP.

Needs tcpdump, and the right to capture on the loopback interface; says so and does nothing without them.
"""

import shutil
import struct
import subprocess
import sys

from harness import PATIENCE, Scene, check, equal, eventually, lictor

PORT = 8300
SECRET = b"correct horse battery staple" * 40
QUIC_V1 = 1
# RFC 9000, 17.2: the types of packets with a long header.
LONG_TYPES = {0: "Initial", 1: "0-RTT", 2: "Handshake", 3: "Retry"}


def packets(pcap):
    """The IPv4 packets of a capture in pcap's classic format, on Linux's loopback (Ethernet) or raw."""
    (magic,) = struct.unpack_from("<I", pcap)
    check(magic in (0xA1B2C3D4, 0xA1B23C4D), "the capture is in pcap's little-endian format")
    (link,) = struct.unpack_from("<I", pcap, 20)
    header = {1: 14, 101: 0}[link]
    at = 24
    while at + 16 <= len(pcap):
        captured, length = struct.unpack_from("<II", pcap, at + 8)
        check(captured == length, "whole packets were captured")
        yield pcap[at + 16 + header : at + 16 + captured]
        at += 16 + captured


def is_quic(payload):
    """What kind of QUIC version 1 packet a UDP payload begins with; None if it is none.

    The fixed bit says nothing: peers that agree to it send any (RFC 9287).
    """
    if not payload:
        return None
    if not payload[0] & 0x80:
        # The rest is a connection id and what is encrypted: at least a packet number and a tag (RFC 9001, 5.4.2).
        return "short" if len(payload) >= 21 else None
    if len(payload) < 7:
        return None
    (version,) = struct.unpack_from(">I", payload, 1)
    destination = payload[5]
    if version != QUIC_V1 or destination > 20 or 6 + destination >= len(payload):
        return None
    source = payload[6 + destination]
    if source > 20 or 7 + destination + source > len(payload):
        return None
    return LONG_TYPES[(payload[0] >> 4) & 3]


def talk(scene):
    """Has three servers say all kinds of things to each other."""
    servers = scene.cluster(lictor())
    for number in range(60):
        equal(servers[number % 3].call("PUT", f"/v1/kv/k{number}", SECRET)[0], 200, "a write")
        equal(servers[(number + 1) % 3].call("GET", f"/v1/kv/k{number}?raw")[2], SECRET, "a read")
    servers[2].kill()
    # The first try may have gone to a leader that was just killed.
    eventually("a write without one server", lambda: servers[0].call("PUT", "/v1/kv/last", SECRET)[0] == 200)
    servers[2].start()
    servers[2].wait_leader()
    eventually("the last write arrives", lambda: servers[2].call("GET", "/v1/kv/last?raw&stale")[2] == SECRET)


def main():
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        print("only QUIC: not checked, there is no tcpdump")
        return
    with Scene() as scene:
        path = f"{scene.dir}/capture.pcap"
        what = f"net 127.77.{scene.net}.0/24 and (port {PORT} or tcp port 8301 or udp port 8301)"
        capture = subprocess.Popen(
            [tcpdump, "-i", "lo", "-U", "-s", "0", "-B", "16384", "-Z", "root", "-w", path, what],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            line = capture.stderr.readline()
            while line and "listening on" not in line:
                line = capture.stderr.readline()
            if not line:
                print("only QUIC: not checked, tcpdump may not capture here")
                return
            talk(scene)
        finally:
            capture.terminate()
            capture.communicate(timeout=PATIENCE)
        with open(path, "rb") as file:
            pcap = file.read()

    kinds = {}
    for packet in packets(pcap):
        protocol, header = packet[9], (packet[0] & 15) * 4
        check(protocol == 17, f"protocol {protocol} on port {PORT}, where only UDP may be")
        payload = packet[header + 8 :]
        kind = is_quic(payload)
        check(kind is not None, f"a UDP payload that is not QUIC version 1: {payload[:32].hex()}")
        check(SECRET[:28] not in payload, "a value in plain text")
        kinds[kind] = kinds.get(kind, 0) + 1
    check(kinds.get("short", 0) > 100 and kinds.get("Initial", 0) >= 4, f"too little was captured: {kinds}")
    print(f"only QUIC: {sum(kinds.values())} packets, all QUIC version 1: {kinds}; none of TCP, no value in plain text")


if __name__ == "__main__":
    sys.exit(main())
