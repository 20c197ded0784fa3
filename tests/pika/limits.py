"""basic.qos: limits of consumers and of whole channels, changed while messages flow."""

import time

import pika

from cluster import WAIT_S, connection_refused, persistent, until


def _filled(cluster, what, messages):
    queue = cluster.name(what)
    channel = cluster.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(messages):
        channel.basic_publish("", queue, str(number).encode(), persistent())
    return queue


def settle_down(connection, got, count):
    """Waits for so many, then lets what is too many come, too."""
    until(lambda: len(got) >= count, f"{count} deliveries", connection)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        connection.process_data_events(time_limit=0.05)


def test_shared_limit_holds_over_two_queues(cluster):
    queues = [_filled(cluster, "shared", 10), _filled(cluster, "shared", 10)]
    channel = cluster.channel(1)
    channel.basic_qos(prefetch_count=4, global_qos=True)
    got = []
    for queue in queues:
        channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method.delivery_tag))
    settle_down(channel.connection, got, 4)
    assert len(got) == 4, got
    channel.basic_ack(got[-1], multiple=True)
    settle_down(channel.connection, got, 8)
    assert len(got) == 8, got
    channel.close()
    for queue in queues:
        cluster.channel().queue_delete(queue)


def test_shared_limit_moves_to_the_consumer_whose_messages_wait(cluster):
    empty, full = _filled(cluster, "idle", 0), _filled(cluster, "busy", 6)
    channel = cluster.channel(2)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    got = []
    channel.basic_consume(empty, lambda *_: None)
    channel.basic_consume(full, lambda _c, method, _p, _b: got.append(method.delivery_tag))
    for done in range(6):
        until(lambda: len(got) > done, "the next delivery", channel.connection)
        channel.basic_ack(got[done])
    channel.close()
    for queue in (empty, full):
        cluster.channel().queue_delete(queue)


def test_both_limits_hold_together(cluster):
    queue = _filled(cluster, "both", 10)
    channel = cluster.channel()
    channel.basic_qos(prefetch_count=2)
    channel.basic_qos(prefetch_count=5, global_qos=True)
    one, two = [], []
    channel.basic_consume(queue, lambda _c, method, _p, _b: one.append(method.delivery_tag))
    channel.basic_consume(queue, lambda _c, method, _p, _b: two.append(method.delivery_tag))
    until(lambda: len(one) + len(two) >= 4, "four deliveries", channel.connection)
    settle_down(channel.connection, one + two, 4)
    assert (len(one), len(two)) == (2, 2), (one, two)
    channel.close()
    cluster.channel().queue_delete(queue)


def test_shared_limit_set_later_counts_for_consumers_that_are_there(cluster):
    queue = _filled(cluster, "later", 20)
    channel = cluster.channel()
    channel.basic_qos(prefetch_count=3)
    got = []
    channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method.delivery_tag), consumer_tag="later")
    until(lambda: len(got) == 3, "the consumer's own limit", channel.connection)
    channel.basic_qos(prefetch_count=1, global_qos=True)
    settle_down(channel.connection, got, 3)
    assert len(got) == 3, got
    channel.basic_ack(got[1], multiple=True)
    settle_down(channel.connection, got, 3)
    assert len(got) == 3, "two of three are settled: the limit of one is used up"
    channel.basic_ack(got[2])
    settle_down(channel.connection, got, 4)
    assert len(got) == 4, got
    channel.basic_qos(prefetch_count=3, global_qos=True)
    settle_down(channel.connection, got, 6)
    assert len(got) == 6, got
    channel.basic_cancel("later")
    channel.basic_ack(0, multiple=True)
    left = channel.queue_delete(queue).method.message_count
    assert left == 14, left


def test_limit_follows_qos_where_the_consumer_asks_for_it(cluster):
    queue = _filled(cluster, "live", 20)
    channel = cluster.channel()
    channel.basic_qos(prefetch_count=2)
    got = []
    channel.basic_consume(
        queue, lambda _c, method, _p, _b: got.append(method.delivery_tag), arguments={"x-live-prefetch": True}
    )
    settle_down(channel.connection, got, 2)
    assert len(got) == 2, got
    channel.basic_qos(prefetch_count=5)
    settle_down(channel.connection, got, 5)
    assert len(got) == 5, got
    channel.basic_qos(prefetch_count=1)
    for settled in range(4):
        channel.basic_ack(got[settled])
    settle_down(channel.connection, got, 5)
    assert len(got) == 5, got
    channel.basic_ack(got[4])
    settle_down(channel.connection, got, 6)
    assert len(got) == 6, got
    channel.close()
    cluster.channel().queue_delete(queue)


def test_limit_of_a_consumer_does_not_follow_qos_by_default(cluster):
    queue = _filled(cluster, "fixed", 10)
    channel = cluster.channel()
    channel.basic_qos(prefetch_count=2)
    got = []
    channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method.delivery_tag))
    settle_down(channel.connection, got, 2)
    channel.basic_qos(prefetch_count=8)
    settle_down(channel.connection, got, 2)
    assert len(got) == 2, got
    channel.close()
    cluster.channel().queue_delete(queue)


def test_prefetch_size_is_540(cluster):
    channel = cluster.channel()
    connection_refused(540, lambda: channel.basic_qos(prefetch_size=1))
