"""What a pool makes of members that die, leave, freeze, or are cut off; and that all comes back when the trouble is over."""

import signal
import time

from harness import PATIENCE, Failed, NotYet, check, equal, eventually
from netns import Lab
from pool import Pool, read, states, write, write_again

# How long nothing may change that must not change.
CALM = 15


def membership(report, binary):
    with Lab() as lab:
        started = time.monotonic()
        pool = Pool(lab, binary)
        pool.settle("the pool forms", {})
        pool.wait_ready()
        report.note("a pool of three servers and five clients forms", time.monotonic() - started, "s")
        every_member_lists_all(pool)
        write(pool.clients[0], "before", b"1")
        for step in (killed, left, forced_to_leave, frozen, cut_between_two, partitioned, all_alone):
            print(f" {step.__name__}", flush=True)
            step(report, lab, pool)
            equal(read(pool.clients[-1], "before"), b"1", "what was written first")


def every_member_lists_all(pool):
    for agent in pool.members():
        code, out, err = agent.command("members", "-status=^alive$")
        listed = {line.split()[0] for line in out.splitlines()[1:]}
        equal((code, err, listed), (0, "", {member.name for member in pool.members()}), f"lictor members at {agent.name}")


def back(report, lab, pool, what):
    """All are alive again, everywhere, and all servers have their vote and their leader."""
    lab.heal()
    report.note(f"{what}: all alive again, everywhere", pool.settle("all are back", {}), "s")
    every_server_votes(pool)
    write_again(pool.clients[0], "after", what.encode())
    for agent in pool.members():
        eventually(f"{agent.name} reads it", lambda agent=agent: read(agent, "after") == what.encode())


def every_server_votes(pool):
    def look():
        voters = pool.voters(pool.leader())
        if len(voters) != len(pool.servers):
            raise NotYet(f"{voters} vote")
        return True

    eventually("all servers vote", look)


def killed(report, lab, pool):
    follower = next(server for server in pool.servers if server is not pool.leader())
    for victim, kind in ((pool.clients[0], "a client"), (follower, "a follower"), (pool.leader(), "the leader")):
        victim.kill()
        report.note(f"{kind} is killed: failed everywhere", pool.settle("one is killed", {victim: "failed"}), "s")
        pool.leader()
        write_again(pool.clients[1], "killed", b"1")
        victim.start()
        back(report, lab, pool, f"{kind} starts again")


def left(report, lab, pool):
    for victim, kind in ((pool.clients[1], "a client"), (pool.leader(), "the leader")):
        equal(victim.command("leave"), (0, "Graceful leave complete\n", ""), "lictor leave")
        equal(victim.process.wait(PATIENCE), 0, f"the exit code of {kind} that left")
        report.note(f"{kind} leaves: left everywhere", pool.settle("one leaves", {victim: "left"}), "s")
        equal(len(pool.voters(pool.leader())), 2 if victim in pool.servers else 3, "servers that vote")
        write_again(pool.clients[2], "left", b"1")
        victim.start()
        back(report, lab, pool, f"{kind} that left starts again")
    terminated = pool.clients[2]
    terminated.kill(signal.SIGTERM)
    report.note("a client is terminated: left everywhere", pool.settle("SIGTERM", {terminated: "left"}), "s")
    terminated.start()
    back(report, lab, pool, "a client that was terminated starts again")


def forced_to_leave(report, lab, pool):
    victim, teller = pool.clients[3], pool.clients[4]
    victim.kill()
    pool.settle("one is killed", {victim: "failed"})
    equal(teller.command("force-leave", victim.name), (0, "", ""), "lictor force-leave")
    report.note("a failed client is made to leave: left everywhere", pool.settle("forced", {victim: "left"}), "s")
    victim.start()
    back(report, lab, pool, "a client that was made to leave starts again")


def frozen(report, lab, pool):
    for victim, kind in ((pool.clients[0], "a client"), (pool.leader(), "the leader")):
        others = [agent for agent in pool.members() if agent is not victim]
        victim.signal(signal.SIGSTOP)
        try:
            took = pool.settle("one is frozen", {victim: "failed"}, others)
            report.note(f"{kind} is frozen: failed everywhere", took, "s")
            pool.leader([server for server in pool.servers if server is not victim])
            write_again(pool.clients[1], "frozen", b"1")
        finally:
            victim.signal(signal.SIGCONT)
        back(report, lab, pool, f"{kind} thaws")


def cut_between_two(_report, lab, pool):
    """Two who cannot talk to each other, in one direction and then in both, are not taken for dead: others reach them."""
    one, other = pool.servers[0], pool.clients[0]
    for cuts in ([(one, other)], [(one, other), (other, one)]):
        for sender, receiver in cuts:
            lab.cut_one_way([sender], [receiver])
        deadline = time.monotonic() + CALM
        while time.monotonic() < deadline:
            for agent in pool.members():
                dead = [name for name, state in states(agent).items() if state != "alive"]
                check(not dead, f"{agent.name} takes {dead} for dead")
            time.sleep(0.1)
        lab.heal()


def partitioned(report, lab, pool):
    leader = pool.leader()
    followers = [server for server in pool.servers if server is not leader]
    for server, kind in ((leader, "the leader"), (followers[0], "a follower")):
        few = [server, *pool.clients[:2]]
        many = [agent for agent in pool.members() if agent not in few]
        lab.partition(few, many)
        took = pool.settle("the many see the few", dict.fromkeys(few, "failed"), many)
        took = max(took, pool.settle("the few see the many", dict.fromkeys(many, "failed"), few))
        report.note(f"a partition with {kind} and two clients on one side: each side sees the other failed", took, "s")
        pool.leader([agent for agent in many if agent in pool.servers])
        write_again(many[-1], "partition", kind.encode())
        for agent in few:
            status = agent.call("PUT", "/v1/kv/partition", b"lost", timeout=60)[0]
            check(status == 500, f"{agent.name}, which has no quorum, answers a write with {status}")
        equal(read(server, "before", "&stale"), b"1", "a stale read without a quorum")
        back(report, lab, pool, f"a partition with {kind} on the smaller side ends")
        equal(read(few[-1], "partition"), kind.encode(), "what was written during the partition")


def all_alone(report, lab, pool):
    """Who hears nobody takes its time: it may itself be what is wrong, so it asks more and more slowly (Lifeguard)."""
    started = time.monotonic()
    lab.partition(*([agent] for agent in pool.members()))
    for agent in pool.members():
        others = {other: "failed" for other in pool.members() if other is not agent}
        pool.settle("everybody is alone", others, [agent], patience=300)
    report.note("everybody is cut off from everybody: each takes all others for failed", time.monotonic() - started, "s")
    try:
        write(pool.clients[0], "alone", b"1", timeout=60)
    except Failed:
        pass
    else:
        raise Failed("a write was acknowledged while everybody was alone")
    back(report, lab, pool, "everybody was alone, and is no more")
