#!/usr/bin/env python3
"""`consul lock` and `lictor lock` side by side: either command against either agent, and both in contention for one lock.

What a command prints, how it exits, what its child gets and suffers, and what is in the store meanwhile and afterwards must be the same in all
four pairs. Then many of both kinds contend for a lock, and for places in a semaphore, through all agents of a cluster of Lictor's: never may
more hold it than may. Without the real binary (in PATH, or named by $CONSUL) only `lictor lock` is run.
"""

import argparse
import base64
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

from harness import PATIENCE, NotYet, Scene, check, consul, equal, eventually, lictor
from pool import Pool
from relay import Relay

MUTEX, SEMAPHORE = 0x2DDCCBC058A50C18, 0xE0F69A2BAA414DE0
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PID = re.compile(r"(child pid )\d+")
# Consul's command hears an interruption twice over, and may be late with one of them.
FORWARDED = re.compile(r"Warning, could not forward signal: ")
# Errors of the network are each language's own.
NETWORK = re.compile(r"((?:Error querying Consul agent|Lock release failed|Lock cleanup failed): ).*")

# Takes one of N places, which nobody else may have, for a moment. Whoever finds none free has found one holder too many.
HOLDER = """
import os, random, sys, time
place, limit, who = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def note(name, line):
    with open(os.path.join(place, name), "a") as file:
        file.write(line + "\\n")

def taken():
    for number in range(limit):
        path = os.path.join(place, f"place{number}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            return path
        except FileExistsError:
            pass

mine = taken()
if mine is None:
    note("too-many", f"{who} beside {limit} others")
    sys.exit(1)
others = sum(os.path.exists(os.path.join(place, f"place{number}")) for number in range(limit)) - 1
note("held", f"{who} {others}")
time.sleep(random.uniform(0.05, 0.3))
os.unlink(mine)
"""


class Runner:
    """One of the commands against one of the agents."""

    def __init__(self, binary, agent, place, tidy):
        self.binary, self.agent, self.place, self.tidy = binary, agent, place, tidy
        os.mkdir(place)
        # Whoever lost the agent for good has left what it held.
        equal(agent.call("DELETE", "/v1/kv/?recurse")[0], 200, "the store is emptied")

    def path(self, name):
        return os.path.join(self.place, name)

    def start(self, *words, stdin=subprocess.DEVNULL):
        """A command that runs; the child finds the directory that it may write to in PLACE."""
        env = {"PATH": os.environ.get("PATH", ""), "CONSUL_HTTP_ADDR": f"{self.agent.ip}:8500", "PLACE": self.place}
        words = [word.replace("PLACE", self.place) for word in words]
        return subprocess.Popen([self.binary, "lock", *words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)

    def finish(self, process, stdin=None):
        """The exit code and what was printed, without what is different each time."""
        out, err = process.communicate(stdin, timeout=PATIENCE)
        return process.returncode, neutral(out), neutral(err)

    def run(self, *words, stdin=None):
        return self.finish(self.start(*words, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL), stdin)

    def holding(self, *words, child=""):
        """A command whose child runs until the file `go` is there."""
        for name in ("go", "child", "told"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(name))
        process = self.start(*words, f"{child} echo $$ > PLACE/child; while ! test -e PLACE/go; do sleep 0.05; done")
        eventually("the child runs", lambda: process.poll() is not None or self.lines("child"))
        check(process.poll() is None, f"{words}: {process.communicate() if process.poll() is not None else ''}")
        return process

    def release(self):
        with open(self.path("go"), "w", encoding="utf-8"):
            pass

    def lines(self, name):
        if not os.path.exists(self.path(name)):
            return []
        with open(self.path(name), encoding="utf-8") as file:
            return file.read().split("\n")[:-1]

    def ended(self, process):
        """As `finish`, of a command that was to end its child, and what became of that."""
        code, out, err = self.finish(process)
        if self.tidy:
            check(self.child_is_gone(), "a child outlives `lictor lock`")
        else:
            # It kills a child without waiting for its end, and may say how it ended or not.
            eventually("the child ends", self.child_is_gone)
        said = [line for line in err.split("\n") if line != "Error running handler: signal: killed" and not FORWARDED.match(line)]
        # Whether Consul's passes an interrupt on before it ends the child is up to its scheduler.
        return code, out, said, [line for line in self.lines("told") if line != "INT"]

    def child_is_gone(self):
        try:
            with open(f"/proc/{self.lines('child')[0]}/stat", encoding="utf-8") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    def store(self, prefix):
        """What is below a prefix, without what is different each time."""
        status, _, body = self.agent.call("GET", f"/v1/kv/{prefix}?recurse&consistent")
        entries = json.loads(body) if status == 200 else []
        for entry in entries:
            entry["Key"] = ID.sub("SESSION", entry["Key"])
            value = base64.b64decode(entry["Value"] or "").decode()
            entry["Value"] = ID.sub("SESSION", value)
            if "Session" in entry:
                entry["Session"] = "SESSION"
            for index in ("CreateIndex", "ModifyIndex"):
                del entry[index]
        return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))

    def sessions(self):
        sessions = self.agent.get("/v1/session/list?consistent")
        for session in sessions:
            for name in ("CreateIndex", "ModifyIndex", "Node"):
                del session[name]
            session["Name"] = neutral(session["Name"])
        return sessions

    def destroy(self, session):
        status, _, body = self.agent.call("PUT", f"/v1/session/destroy/{session['ID']}")
        equal((status, body.strip()), (200, b"true"), "a session is destroyed")

    def left(self, prefix):
        """What is left in the store when a command has ended. Consul leaves the session of a lock that it did not get to its TTL, Lictor none."""
        sessions = self.sessions()
        if self.tidy:
            equal(sessions, [], "sessions after `lictor lock`")
        for session in sessions:
            self.destroy(session)
        return self.store(prefix)


def neutral(text):
    text = text.replace("Lictor", "Consul").replace("lictor", "consul")
    text = re.split(r"\n*Usage:|\nFor additional help", text)[0].rstrip()
    # What is wrong with a duration only Lictor says.
    text = re.sub(r"(invalid value .* for flag -[\w-]+): time: .*", r"\1: parse error", text)
    return NETWORK.sub(r"\1ERROR", PID.sub(r"\1N", ID.sub("SESSION", text)))


# ---- what is the same whoever runs it --------------------------------------------------------------------------------------------


def results(runner):
    """Commands that need nobody else: exit codes and output."""
    for words in (
        ["-verbose", "r", "echo out; echo err >&2; echo $CONSUL_LOCK_HELD"],
        ["-verbose", "-n=2", "/r//s/", "env | grep ^CONSUL_LOCK"],
        ["-verbose", "-name=mine", "/r//t/", "true"],
        ["r", "exit 7"],
        ["-child-exit-code", "r", "exit 7"],
        ["-child-exit-code", "-verbose", "-n=3", "r", "exit 300"],
        ["-child-exit-code", "r", "true"],
        ["-child-exit-code", "r", "kill -9 $$"],
        ["-child-exit-code=false", "r", "kill -TERM $$"],
        ["-shell=false", "r", "printf", "[%s]", "a b", "$HOME", "c'd"],
        ["r", "printf", "[%s]", "a b", "$PLACE"],
        ["-shell=false", "-child-exit-code", "r", "/no/such/program"],
        ["-child-exit-code", "r", "/no/such/program"],
        ["-shell=false", "r", "PLACE"],
        ["-try=0", "r", "true"],
        ["-try=5s", "r", "echo tried"],
        ["-timeout=5s", "-try=1s", "r", "echo tried"],
        ["-timeout=0s", "-monitor-retry=0", "r", "true"],
        ["-n=x", "r", "true"],
        ["-n=0", "r", "true"],
        ["-timeout=-5s", "r", "true"],
        ["-timeout=5", "r", "true"],
        ["-monitor-retry=-3", "r", "true"],
        ["-bogus", "r", "true"],
        ["-verbose"],
        ["r"],
        ["", "true"],
        ["-verbose", "/", "true"],
        ["-token=none", "r", "true"],
        ["-datacenter=nowhere", "r", "true"],
        ["-http-addr=127.0.0.1:1", "r", "true"],
    ):
        yield words, runner.run(*words)
        yield ("left by", words), runner.left("")


def standard_input(runner):
    yield "passed", runner.run("-pass-stdin", "i", "cat", stdin="some\ntext\n")
    yield "not passed", runner.run("i", "cat", stdin="some\ntext\n")


def while_held(runner):
    """What is in the store, and who gets nothing meanwhile."""
    for words in (["h"], ["-n=2", "h"], ["-name=own name", "-n=1", "h/i"], ["-n=5", "-name=own name", "h"]):
        process = runner.holding("-verbose", *words)
        (session,) = runner.sessions()
        yield ("session", words), {name: value for name, value in session.items() if name != "ID"}
        yield ("store", words), runner.store("h")
        for others in (["-try=300ms", "h"], ["-timeout=300ms", "-verbose", "h/i"], ["-n=2", "-timeout=300ms", "h"], ["-n=3", "-try=300ms", "h"]):
            yield (words, "and meanwhile", others), runner.run(*others, "echo got it")
            for other in runner.sessions():
                if other["ID"] != session["ID"]:
                    check(not runner.tidy, f"`lictor lock` leaves a session: {other}")
                    runner.destroy(other)
        yield (words, "still there"), runner.store("h")
        runner.release()
        yield (words, "released"), runner.finish(process)
        yield (words, "left"), runner.left("h")


def of_another_kind(runner):
    """Keys that others have put where a lock would be."""
    for value, flags in ((b"", 0), (b"x", 5), (b"x", MUTEX), (b"", SEMAPHORE), (b'{"Limit":2,"Holders":{}}', SEMAPHORE), (b'{"Limit":3,"Holders":{}}', SEMAPHORE), (b"{}", SEMAPHORE)):
        for words in (["k"], ["-n=2", "k"]):
            status, _, _ = runner.agent.call("PUT", f"/v1/kv/k/.lock?flags={flags}", value)
            equal(status, 200, "a key is put")
            yield (value, flags, words), runner.run("-verbose", "-try=2s", *words, "echo got it")
            yield ("left by", value, flags, words), runner.left("k")
            runner.agent.call("DELETE", "/v1/kv/k?recurse")


STUBBORN = "trap 'echo TERM >> PLACE/told' TERM; trap 'echo INT >> PLACE/told' INT;"
OBEDIENT = "trap 'echo TERM >> PLACE/told; exit 3' TERM; trap 'echo INT >> PLACE/told' INT;"


def signals(runner):
    """The command is told to end while its child runs."""
    for how in (signal.SIGINT, signal.SIGTERM):
        for words, child in ((["-verbose", "-child-exit-code"], ""), (["-n=2"], OBEDIENT), (["-verbose"], STUBBORN)):
            process = runner.holding(*words, "g", child=child)
            process.send_signal(how)
            yield (how, words, child), runner.ended(process)
            if runner.tidy and how == signal.SIGINT and child == STUBBORN:
                equal(runner.lines("told"), ["INT", "TERM"], "what `lictor lock` tells its child")
            yield (how, words, child, "left"), runner.left("g")


def signals_while_waiting(runner):
    """The command is told to end before it has the lock."""
    for how in (signal.SIGINT, signal.SIGTERM):
        holder = runner.holding("w")
        (session,) = runner.sessions()
        waiting = runner.start("-verbose", "w", "echo never")
        eventually("it waits", lambda: len(runner.sessions()) == 2)
        waiting.send_signal(how)
        yield how, runner.finish(waiting)
        for other in runner.sessions():
            if other["ID"] != session["ID"]:
                check(not runner.tidy, f"`lictor lock` leaves a session: {other}")
                runner.destroy(other)
        runner.release()
        yield (how, "the holder"), runner.finish(holder)
        yield (how, "left"), runner.left("w")


def lost(runner):
    """The lock is lost while the child runs."""
    for words in (["-verbose", "-child-exit-code"], ["-verbose", "-n=2"], []):
        for child in (OBEDIENT, STUBBORN):
            # The lock delay of each is on for a while.
            prefix = f"l/{len(words)}/{len(child)}"
            process = runner.holding(*words, prefix, child=child)
            (session,) = runner.sessions()
            runner.destroy(session)
            yield (words, child), runner.ended(process)
            yield (words, child, "left"), runner.left(prefix)
    process = runner.holding("-verbose", "l2", child=OBEDIENT)
    runner.agent.call("DELETE", "/v1/kv/l2/.lock")
    yield "its key is deleted", runner.ended(process)
    process = runner.holding("-verbose", "-n=2", "l3", child=OBEDIENT)
    runner.agent.call("DELETE", "/v1/kv/l3/.lock")
    yield "the list of holders is deleted", runner.ended(process)
    yield "left", runner.left("l")


def out_of_reach(runner):
    """The agent does not answer for a while, or for good, or says that it may not."""
    faults = {
        "gone": Relay.cut,
        "failing": lambda relay: relay.fail(500, "No cluster leader"),
        "refusing": lambda relay: relay.fail(403, "Permission denied"),
    }
    for limit in (1, 2):
        for name, fault in faults.items():
            for retries in (0, 1):
                with Relay(runner.agent) as relay:
                    words = [f"-http-addr={relay.address}", f"-monitor-retry={retries}", f"-n={limit}", "-verbose", "-child-exit-code"]
                    process = runner.holding(*words, f"o{limit}/{name}/{retries}", child=OBEDIENT)
                    fault(relay)
                    yield (limit, name, retries), runner.ended(process)
                for session in runner.sessions():
                    runner.destroy(session)
        for name in ("gone", "failing"):
            with Relay(runner.agent) as relay:
                words = [f"-http-addr={relay.address}", "-monitor-retry=1000", f"-n={limit}", "-verbose"]
                process = runner.holding(*words, f"o{limit}/{name}/back", child=OBEDIENT)
                faults[name](relay)
                # Longer than a retry takes, shorter than the session lives.
                time.sleep(2.5)
                relay.mend()
                # It would see now what has been done to it meanwhile, but there is nothing to see.
                time.sleep(2.5)
                check(process.poll() is None and not runner.child_is_gone(), f"{limit} {name}: the child outlives it")
                runner.release()
                yield (limit, name, "for a while"), runner.finish(process)
                yield (limit, name, "for a while: the child"), runner.lines("told")
                yield (limit, name, "left"), runner.left(f"o{limit}/{name}/back")


SCENES = [results, standard_input, while_held, of_another_kind, signals, signals_while_waiting, lost, out_of_reach]


# ---- who contends for the same ---------------------------------------------------------------------------------------------------


class Contender(threading.Thread):
    """Takes a lock again and again, until it is stopped."""

    def __init__(self, name, command, words, stop):
        super().__init__(daemon=True)
        self.who, self.stop, self.failed = name, stop, None
        self.words = [*command, *words]

    def run(self):
        while not self.stop.is_set() and self.failed is None:
            done = subprocess.run(self.words, capture_output=True, text=True, timeout=PATIENCE * 2, check=False)
            if done.returncode != 0:
                self.failed = f"{self.who} exits with {done.returncode}: {done.stdout} {done.stderr}"
            # Locks promise nobody a turn, and those at the leader hear first that one is free.
            self.stop.wait(random.uniform(0.5, 3))


def creates_sessions(agent):
    """Whether it does: not before the catalog knows it."""
    status, _, body = agent.call("PUT", "/v1/session/create", b"{}")
    if status == 200:
        agent.call("PUT", f"/v1/session/destroy/{json.loads(body)['ID']}")
    return status == 200


def contention(scene, binaries, pool, limit, each, seconds):
    """How often each kind of command got it, and how often all places were taken."""
    place = os.path.join(scene.dir, f"contention{limit}")
    os.mkdir(place)
    with open(os.path.join(place, "holder.py"), "w", encoding="utf-8") as file:
        file.write(HOLDER)
    stop, contenders = threading.Event(), []
    for name, binary in binaries.items():
        for number in range(each):
            agent = pool.members()[len(contenders) % len(pool.members())]
            words = ["-child-exit-code", "-shell=false", f"-n={limit}", f"contended/{limit}"]
            words += [sys.executable, os.path.join(place, "holder.py"), place, str(limit), f"{name}-{number}"]
            contenders.append(Contender(f"{name}-{number}", [binary, "lock", f"-http-addr={agent.url}"], words, stop))
    for contender in contenders:
        contender.start()

    def lines(name):
        path = os.path.join(place, name)
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()

    def seen():
        check(not lines("too-many"), f"too many hold it: {lines('too-many')}")
        failures = [contender.failed for contender in contenders if contender.failed]
        check(not failures, f"{failures}")
        holders = {line.split()[0] for line in lines("held")}
        full = any(int(line.split()[1]) == limit - 1 for line in lines("held"))
        if without := {contender.who for contender in contenders} - holders:
            raise NotYet(f"of {len(lines('held'))} times, none was for {without}")
        return full and time.monotonic() > until

    until = time.monotonic() + seconds
    try:
        eventually("every contender gets it, and all places are taken at once", seen, PATIENCE * 2)
    finally:
        stop.set()
        for contender in contenders:
            contender.join(PATIENCE * 2)
    seen()
    status, _, body = pool.servers[0].call("GET", f"/v1/kv/contended/{limit}?recurse&consistent")
    equal(status, 404, f"what is left in the store: {body}")
    equal(pool.servers[0].get("/v1/session/list?consistent"), [], "sessions that are left")
    return {name: sum(line.startswith(f"{name}-") for line in lines("held")) for name in binaries}


# ---- all of it -------------------------------------------------------------------------------------------------------------------


def compare(scene, binaries, wanted):
    """What came out otherwise than with the first pair, and how much was looked at."""
    agents = {name: scene.single(binary, 1 + at) for at, (name, binary) in enumerate(binaries.items())}
    expected, differences, looked = {}, [], 0
    # The real one is the measure, if it is there.
    for of_agent, agent in reversed(agents.items()):
        for of_command, binary in reversed(binaries.items()):
            for scenario in SCENES:
                if scenario.__name__ not in wanted:
                    continue
                started = time.monotonic()
                place = os.path.join(scene.dir, f"{of_command}-{of_agent}-{scenario.__name__}")
                runner = Runner(binary, agent, place, of_command == "lictor")
                for what, found in scenario(runner):
                    looked += 1
                    found = json.loads(json.dumps(found).replace(runner.place, "PLACE"))
                    key = (scenario.__name__, str(what))
                    if found != expected.setdefault(key, found):
                        differences.append(f"{of_command} lock at {of_agent}: {key}:\n  {found}\n  and not\n  {expected[key]}")
                print(f"{of_command} lock at {of_agent}: {scenario.__name__}: {time.monotonic() - started:.1f} s", flush=True)
    return differences, looked


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*(scenario.__name__ for scenario in SCENES), "contention"]), help="what to run")
    parser.add_argument("--seconds", type=int, default=20, help="how long each contention goes on at least")
    parser.add_argument("--each", type=int, default=3, help="how many contenders of each kind")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    binaries = {"lictor": lictor()}
    if consul() is not None:
        binaries["consul"] = consul()
    with Scene() as scene:
        differences, looked = compare(scene, binaries, wanted)
    for difference in differences:
        print(f"DIFFERS: {difference}")
    if "contention" in wanted:
        with Scene() as scene:
            pool = Pool(scene, binaries["lictor"], clients=1)
            pool.settle("the pool forms", {})
            pool.wait_ready()
            for agent in pool.members():
                eventually(f"sessions of {agent.name} are taken", lambda agent=agent: creates_sessions(agent))
            for limit in (1, 2):
                got = contention(scene, binaries, pool, limit, arguments.each, arguments.seconds)
                of = ", ".join(f"{name} lock {times} times" for name, times in got.items())
                print(f"contention for {limit}: {of}; never more than {limit} at once")
    check(not differences, f"{len(differences)} of {looked} observations differ")
    if looked:
        print(f"lock commands: {looked} observations with {' and '.join(binaries)}, all the same")


if __name__ == "__main__":
    main()
