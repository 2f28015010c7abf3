#!/usr/bin/env python3
"""Whole clusters of real processes: what becomes of them when agents die, leave, freeze, move, or lose each other; and what they cost.

Each scenario is told of in the module that it is from. All numbers are printed as a table in the end; those with a bound must keep
it. Partitions are made in network namespaces, which takes root on Linux; elsewhere that scenario is left out, and that is said.
"""

import argparse
import sys

import load
import locks
import membership
import moves
import netns
import services
from harness import lictor
from pool import Report

SCENARIOS = {
    "membership": [membership.membership],
    "services": [services.services],
    "datacenters": [moves.datacenters],
    "replacement": [moves.replacement, "leave"],
    "replacement-kill": [moves.replacement, "kill"],
    "readdressing": [moves.readdressing],
    "locks": [locks.contention, 60],
    "locks-long": [locks.contention, 600],
    "storm": [load.storm],
    "forwarding": [load.forwarding],
    "hundred": [load.hundred],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="scenario", help=f"one of {', '.join(SCENARIOS)}; default: all but locks-long")
    chosen = parser.parse_args().scenarios or [name for name in SCENARIOS if name != "locks-long"]
    lacking = netns.unavailable()
    if lacking is None:
        netns.enter()
    else:
        partitioned = [name for name in ("membership", "locks", "locks-long") if name in chosen]
        if partitioned:
            print(f"{', '.join(partitioned)}: left out, since there can be no network namespaces: {lacking}")
        chosen = [name for name in chosen if name not in partitioned]
    report = Report()
    for name in chosen:
        scenario, *arguments = SCENARIOS[name]
        report.run(name, scenario, lictor(), *arguments)
    return report.show()


if __name__ == "__main__":
    sys.exit(main())
