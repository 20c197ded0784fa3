#!/usr/bin/env python3
"""Unmodified pika programs against running nodes: what the AMQP tutorials do, and the errors they must get.

    python3 tests/pika/run.py --port 5672[,5673,5674] [--only NAME]

Each test gets a `Cluster` and makes its own names, so that tests can be repeated against the same nodes. With several ports,
publishers and consumers connect to different nodes. The last line says how many passed; the exit code is 1 if one failed.
"""

import argparse
import sys
import time
import traceback

import blocked
import dead_letters
import doors
import errors
import exchanges
import exclusive
import getting
import groups
import killed
import lifetimes
import limits
import live
import priorities
import publishing
import replies
import routing
import rpc
import single_active
import stopped
import timeouts
import transactions
import workers
from cluster import Cluster

MODULES = (
    publishing,
    workers,
    getting,
    errors,
    routing,
    exchanges,
    exclusive,
    lifetimes,
    rpc,
    single_active,
    groups,
    limits,
    transactions,
    replies,
    dead_letters,
    priorities,
    timeouts,
)


def tests(only, has_live_vhost):
    for module in (*MODULES, live) if has_live_vhost else MODULES:
        for name, test in vars(module).items():
            if name.startswith("test_") and (only is None or only in name):
                yield name, test


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default="5672", help="one port per node, comma separated")
    parser.add_argument("--only", help="run tests whose name holds this text")
    parser.add_argument("--live-vhost", help="a vhost with the setting live_prefetch: the tests of it run, too")
    parser.add_argument("--blocked", metavar="REASON", help="only this: a publisher is told that it is blocked, and why")
    parser.add_argument("--killed", action="store_true", help="only this: transactions; after READY a node is to be killed")
    parser.add_argument("--stopped", action="store_true", help="only this: connections to a node; after READY it is to be stopped")
    parser.add_argument("--left", metavar="QUEUE", help="only this: an exclusive queue; after READY its node is to be killed")
    parser.add_argument("--doors", metavar="QUEUE", help="only this: what tests/api shares with it; READY when it consumes")
    arguments = parser.parse_args()
    ports = [int(port) for port in arguments.port.split(",")]
    if arguments.blocked:
        with Cluster(arguments.host, ports) as cluster:
            blocked.publisher_is_told(cluster, arguments.blocked)
        print("1 passed, 0 failed")
        return 0
    if arguments.killed:
        with Cluster(arguments.host, ports) as cluster:
            killed.each_transaction_is_done_whole_or_not_at_all(cluster)
        print("1 passed, 0 failed")
        return 0
    if arguments.stopped or arguments.left:
        with Cluster(arguments.host, ports) as cluster:
            if arguments.stopped:
                stopped.connection_is_told(cluster)
            else:
                stopped.exclusive_queue_is_left(cluster, arguments.left)
        print("1 passed, 0 failed")
        return 0
    if arguments.doors:
        with Cluster(arguments.host, ports) as cluster:
            doors.both(cluster, arguments.doors)
        print("1 passed, 0 failed")
        return 0
    passed = failed = 0
    for name, test in tests(arguments.only, arguments.live_vhost is not None):
        began = time.monotonic()
        try:
            with Cluster(arguments.host, ports) as cluster:
                cluster.live_vhost = arguments.live_vhost
                test(cluster)
        except Exception:
            failed += 1
            print(f"FAILED {name}", flush=True)
            traceback.print_exc()
            continue
        passed += 1
        print(f"ok     {name} ({time.monotonic() - began:.2f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
