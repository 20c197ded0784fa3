"""Single active consumer, consumer priority, exclusive consumer."""

from cluster import refused

SINGLE = {"x-single-active-consumer": True}


def consumer(cluster, node, queue, **options):
    """A channel of its own connection, and what it was delivered: (method, fencing)."""
    channel, got = cluster.channel(node), []
    channel.basic_qos(prefetch_count=10)
    take = lambda _, method, properties, body: got.append((method, (properties.headers or {}).get("x-fencing"), body))
    channel.basic_consume(queue, take, **options)
    return channel, got


def pump_until(channels, is_done):
    for _ in range(400):
        for channel in channels:
            channel.connection.process_data_events(time_limit=0.01)
        if is_done():
            return
    raise AssertionError("did not happen")


def test_single_active_one_is_served_and_the_next_takes_over(cluster):
    queue = cluster.name("single")
    control = cluster.channel()
    control.queue_declare(queue, arguments=SINGLE)
    first, got_first = consumer(cluster, 0, queue)
    second, got_second = consumer(cluster, 1, queue)
    for number in range(4):
        control.basic_publish("", queue, b"%d" % number)
    pump_until([first, second], lambda: len(got_first) == 4)
    assert got_second == []
    fence = got_first[0][1]
    assert fence and all(it[1] == fence for it in got_first)
    first.basic_ack(got_first[1][0].delivery_tag, multiple=True)
    first.connection.close()
    pump_until([second], lambda: len(got_second) == 2)
    assert [it[2] for it in got_second] == [b"2", b"3"]
    assert all(it[1] > fence and it[0].redelivered for it in got_second)


def test_single_active_higher_priority_takes_over_when_all_is_settled(cluster):
    queue = cluster.name("single")
    control = cluster.channel()
    control.queue_declare(queue, arguments=SINGLE)
    low, got_low = consumer(cluster, 0, queue)
    control.basic_publish("", queue, b"a")
    pump_until([low], lambda: len(got_low) == 1)
    high, got_high = consumer(cluster, 1, queue, arguments={"x-priority": 5})
    control.basic_publish("", queue, b"b")
    for _ in range(5):
        low.connection.process_data_events(time_limit=0.02)
        high.connection.process_data_events(time_limit=0.02)
    assert got_high == [] and len(got_low) == 1
    low.basic_ack(got_low[0][0].delivery_tag)
    pump_until([low, high], lambda: len(got_high) == 1)
    assert got_high[0][2] == b"b" and got_high[0][1] > got_low[0][1]


def test_single_active_get_and_exclusive_consume_are_refused(cluster):
    queue = cluster.name("single")
    cluster.channel().queue_declare(queue, arguments=SINGLE)
    refused(405, lambda: cluster.channel(1).basic_get(queue))
    refused(403, lambda: cluster.channel(2).basic_consume(queue, lambda *_: None, exclusive=True))


def test_exclusive_consumer_and_others_exclude_each_other(cluster):
    queue = cluster.name("alone")
    channel = cluster.channel()
    channel.queue_declare(queue)
    tag = channel.basic_consume(queue, lambda *_: None, exclusive=True)
    refused(403, lambda: cluster.channel(1).basic_consume(queue, lambda *_: None))
    channel.basic_cancel(tag)
    cluster.channel(1).basic_consume(queue, lambda *_: None)
    refused(403, lambda: cluster.channel(2).basic_consume(queue, lambda *_: None, exclusive=True))


def test_consumer_priority_higher_one_is_served_first(cluster):
    queue = cluster.name("priority")
    control = cluster.channel()
    control.queue_declare(queue)
    low, got_low = consumer(cluster, 0, queue)
    high, got_high = consumer(cluster, 1, queue, arguments={"x-priority": 1})
    for number in range(15):
        control.basic_publish("", queue, b"%d" % number)
    pump_until([low, high], lambda: len(got_low) + len(got_high) == 15)
    assert len(got_high) == 10 and len(got_low) == 5
