"""Programs that contend for one lock while agents are killed, frozen and cut off: never two hold it, and no write with an old fence is taken."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

from harness import PATIENCE, check, eventually
from netns import Lab
from pool import Pool

KEY = "deploy"

# What runs while the lock is held. Whoever finds another one running writes that down; and so does whoever gets something written under its fence.
HOLDER = """
import base64, json, os, random, sys, time, urllib.request
place, urls = sys.argv[1], sys.argv[2:]
fence = int(os.environ["LICTOR_LOCK_FENCE"])
claim = os.path.join(place, "holder")

def note(name, line):
    with open(os.path.join(place, name), "a") as file:
        file.write(line + "\\n")

def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

try:
    with open(claim) as file:
        other = file.read().split()
    if len(other) == 2 and runs(other[0]):
        note("two", f"{os.getpid()} with {fence} beside {other}")
except FileNotFoundError:
    pass
with open(claim, "w") as file:
    file.write(f"{os.getpid()} {fence}")
note("held", str(fence))
value = base64.b64encode(str(fence).encode()).decode()
body = json.dumps([{"KV": {"Verb": "check-fence", "Key": "deploy/.lock", "Index": fence}},
                   {"KV": {"Verb": "set", "Key": "protected", "Value": value}}]).encode()
until = time.monotonic() + random.uniform(0.2, 3)
while time.monotonic() < until:
    try:
        request = urllib.request.Request(random.choice(urls) + "/v1/txn", data=body, method="PUT")
        with urllib.request.urlopen(request, timeout=3) as answer:
            results = json.load(answer)["Results"]
        note("taken", f"{results[-1]['KV']['ModifyIndex']} {fence}")
    except (OSError, ValueError):
        pass
    time.sleep(0.02)
os.unlink(claim)
"""


class Contender(threading.Thread):
    """Takes the lock through its agent, again and again."""

    def __init__(self, binary, agent, place, urls, stop):
        super().__init__(daemon=True)
        self.words = [binary, "lock", f"-http-addr={agent.url}", "-child-exit-code", KEY]
        self.words += [sys.executable, os.path.join(place, "holder.py"), place, *urls]
        # The program is to be run as it is, not by a shell.
        self.words.insert(2, "-shell=false")
        self.log = open(os.path.join(place, f"{agent.name}.lock.log"), "ab")
        self.stop, self.process = stop, None

    def run(self):
        while not self.stop.is_set():
            self.process = subprocess.Popen(self.words, stdout=self.log, stderr=self.log)
            self.process.wait()
            time.sleep(0.1)

    def end(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
        self.join(PATIENCE)


def lines(place, name):
    path = os.path.join(place, name)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def contention(report, binary, seconds):
    with Lab() as lab:
        pool = Pool(lab, binary, clients=3)
        pool.settle("the pool forms", {})
        pool.wait_ready()
        place = os.path.join(lab.dir, "lock")
        os.mkdir(place)
        with open(os.path.join(place, "holder.py"), "w", encoding="utf-8") as file:
            file.write(HOLDER)
        stop, urls = threading.Event(), [agent.url for agent in pool.members()]
        contenders = [Contender(binary, agent, place, urls, stop) for agent in pool.clients]
        for contender in contenders:
            contender.start()
        started, faults = time.monotonic(), 0
        try:
            while time.monotonic() - started < seconds:
                before = len(lines(place, "held"))
                eventually("somebody gets the lock", lambda before=before: len(lines(place, "held")) > before)
                trouble(lab, pool, faults)
                faults += 1
                check(not lines(place, "two"), f"two hold the lock: {lines(place, 'two')}")
        finally:
            stop.set()
            for contender in contenders:
                contender.end()
        taken = sorted(tuple(map(int, line.split())) for line in lines(place, "taken"))
        fences = [fence for _, fence in taken]
        check(fences == sorted(fences), "a write with an old fence was taken after one with a newer")
        check(not lines(place, "two"), f"two hold the lock: {lines(place, 'two')}")
        report.note("faults while programs contend for a lock", faults, "faults")
        report.note("times that one of them got it, and never two at once", len(lines(place, "held")), "times")
        report.note("writes under its fences, none with an old one", len(taken), "writes")


def trouble(lab, pool, number):
    """One fault of each kind in turn, for a random time."""
    pause = random.uniform(1, 12)
    kind = number % 6
    if kind == 0:
        pool.leader().kill()
    elif kind == 1:
        random.choice(pool.clients).kill()
    elif kind == 2:
        random.choice(pool.clients).signal(signal.SIGSTOP)
    elif kind == 3:
        pool.leader().signal(signal.SIGSTOP)
    elif kind == 4:
        lonely = random.choice(pool.clients)
        lab.partition([lonely], [agent for agent in pool.members() if agent is not lonely])
    else:
        lonely = pool.leader()
        lab.partition([lonely], [agent for agent in pool.members() if agent is not lonely])
    time.sleep(pause)
    lab.heal()
    for agent in pool.members():
        if agent.is_running():
            agent.signal(signal.SIGCONT)
        else:
            agent.kill()
            agent.start()
    for agent in pool.members():
        agent.wait_leader()
