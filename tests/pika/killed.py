"""Transactions while a node that leads some of their queues is killed. Not one of the tests that run.py finds: somebody must kill it."""

import itertools
import time

import pika

from cluster import persistent

GROUPS = 8
EACH = 40
WITHIN_S = 120
# Of one after the other.
SIZES = itertools.cycle((1, 2, 5, 1, 3))


def _declared(cluster):
    channel = cluster.channel()
    channel.confirm_delivery()
    groups = []
    for _ in range(GROUPS):
        # The three of a group share a shard.
        together = {"x-placement-group": cluster.name("killed")}
        names = [cluster.name(part) for part in ("in", "one", "two")]
        for name in names:
            channel.queue_declare(name, durable=True, arguments=together)
        for number in range(EACH):
            channel.basic_publish("", names[0], str(number).encode(), persistent())
        groups.append(names)
    return groups


def _transaction(channel, source, one, two):
    """Takes some messages, publishes each twice and acks them; false: there was none."""
    taken = 0
    for _ in range(next(SIZES)):
        method, _, body = channel.basic_get(source)
        if method is None:
            break
        taken += 1
        tag = method.delivery_tag
        for queue in (one, two):
            channel.basic_publish("", queue, body, persistent())
    if not taken:
        return False
    channel.basic_ack(tag, multiple=True)
    channel.tx_commit()
    return True


def _drained(channel, queue):
    got = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return got
        got.append(int(body))


def each_transaction_is_done_whole_or_not_at_all(cluster):
    groups = _declared(cluster)
    channel, done, told = None, 0, False
    left = [EACH] * GROUPS
    end = time.monotonic() + WITHIN_S
    while any(left):
        assert time.monotonic() < end, f"not within {WITHIN_S} s: {left}"
        for at, group in enumerate(groups):
            try:
                if channel is None or not channel.is_open:
                    channel = cluster.channel()
                    channel.tx_select()
                if _transaction(channel, *group):
                    done += 1
                elif left[at]:
                    left[at] = channel.queue_declare(group[0], passive=True).method.message_count
            except pika.exceptions.AMQPError as error:
                # Refused, or the answer is lost: what it acked comes again, or all of it is there.
                print(f"{error!r}", flush=True)
                channel = None
                time.sleep(0.1)
            if done == GROUPS * EACH // 8 and not told:
                told = True
                print("READY", flush=True)
    # What was held by a channel that was lost has come back by now, or it is acked.
    time.sleep(1.5)
    channel = cluster.channel()
    for source, one, two in groups:
        while True:
            channel.tx_select()
            if not _transaction(channel, source, one, two):
                break
        got = [sorted(_drained(channel, queue)) for queue in (one, two)]
        channel.tx_commit()
        assert got[0] == got[1], f"some transactions were done in part: {got}"
        assert got[0] == list(range(EACH)), f"lost or done twice: {got[0]}"
        for queue in (source, one, two):
            channel.queue_delete(queue)
