#!/usr/bin/env python3
"""Kills the leader of three servers again and again while clients repeat what they got no answer to, each time under the same idempotency key.

Every client increments a counter of its own by check-and-set, and creates sessions: an increment that happened twice, or one that is said not to have
happened though it did, breaks the count; a session too many is counted.
"""

import argparse
import json
import threading
import time
import urllib.error
import urllib.request
import uuid

from harness import PATIENCE, Failed, Scene, check, equal, eventually, lictor
from pool import Pool


class Client(threading.Thread):
    """Counts, and creates a session now and then, until it is stopped."""

    def __init__(self, number, agents, stop):
        super().__init__(daemon=True)
        self.number, self.agents, self.stop = number, agents, stop
        self.counted, self.sessions, self.repeated, self.wrong = 0, [], 0, None

    def run(self):
        try:
            index = 0
            while not self.stop.is_set():
                answer = self.once(f"/v1/kv/count/{self.number}?cas={index}", str(self.counted + 1).encode())
                check(answer.strip() == b"true", f"increment {self.counted + 1} of {self.number} is answered {answer!r}")
                self.counted += 1
                index = self.entry()["ModifyIndex"]
                if self.counted % 10 == 0:
                    body = json.dumps({"Name": f"once-{self.number}", "LockDelay": "0s"}).encode()
                    self.sessions.append(json.loads(self.once("/v1/session/create", body))["ID"])
        except (Failed, KeyError, ValueError) as error:
            self.wrong = error

    def agent(self, turn):
        return self.agents[(self.number + turn) % len(self.agents)]

    def once(self, path, body):
        """Asks until there is an answer, always with the same key."""
        key = str(uuid.uuid4())
        deadline = time.monotonic() + PATIENCE
        turn = self.counted
        while True:
            url = self.agent(turn).url + path
            request = urllib.request.Request(url, data=body, method="PUT", headers={"Lictor-Idempotency-Key": key})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                text = error.read()
                check(error.code in (429, 500, 503), f"{path}: {error.code} {text!r}")
            except (OSError, ValueError):
                pass
            check(time.monotonic() < deadline, f"no answer to {path}")
            self.repeated += 1
            turn += 1
            time.sleep(0.02)

    def entry(self):
        """The counter as it is."""
        deadline = time.monotonic() + PATIENCE
        turn = self.counted
        while True:
            try:
                status, _, body = self.agent(turn).call("GET", f"/v1/kv/count/{self.number}?consistent", timeout=10)
                if status == 200:
                    return json.loads(body)[0]
            except OSError:
                pass
            check(time.monotonic() < deadline, "the counter cannot be read")
            turn += 1
            time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often the leader is killed")
    parser.add_argument("--clients", type=int, default=4)
    arguments = parser.parse_args()
    with Scene() as scene:
        pool = Pool(scene, lictor(), clients=1)
        pool.settle("the pool forms", {})
        pool.wait_ready()
        stop = threading.Event()
        # Through servers, and through an agent in client mode.
        clients = [Client(number, pool.servers + pool.clients, stop) for number in range(arguments.clients)]
        for client in clients:
            client.start()
        for round_ in range(arguments.rounds):
            before = [client.counted for client in clients]

            def counting(before=before):
                wrong = [client.wrong for client in clients if client.wrong]
                check(not wrong, f"{wrong}")
                return all(client.counted > count + 2 for client, count in zip(clients, before))

            eventually(f"all count in round {round_}", counting)
            victim = pool.leader()
            victim.kill()
            time.sleep(0.2 * (round_ % 5))
            victim.start()
            victim.wait_leader()
        stop.set()
        for client in clients:
            client.join(PATIENCE)
            check(client.wrong is None, f"client {client.number}: {client.wrong}")
        for client in clients:
            value = int(pool.servers[0].call("GET", f"/v1/kv/count/{client.number}?raw&consistent")[2])
            equal(value, client.counted, f"the counter of client {client.number}")
        created = sorted(one for client in clients for one in client.sessions)
        there = sorted(one["ID"] for one in pool.servers[0].get("/v1/session/list?consistent") if one["Name"].startswith("once-"))
        extra = [one for one in there if one not in created]
        equal(extra, [], "sessions that nobody asked for twice")
        counted, repeated = sum(client.counted for client in clients), sum(client.repeated for client in clients)
        print(f"once: {counted} increments and {len(created)} sessions, {repeated} requests repeated, over {arguments.rounds} kills of the leader: each once")


if __name__ == "__main__":
    main()
