"""Message groups (`x-message-groups`): each key in order and with one consumer at a time, keys free to go to whoever has room."""

from cluster import persistent, until

from single_active import pump_until


def declare(cluster, mode="strict", **arguments):
    queue, channel = cluster.name("groups"), cluster.channel()
    channel.confirm_delivery()
    exchange = cluster.name("keys")
    channel.exchange_declare(exchange, "fanout", durable=True)
    channel.queue_declare(queue, durable=True, arguments={"x-message-groups": mode, **arguments})
    channel.queue_bind(queue, exchange)
    return channel, exchange, queue


def test_groups_sixteen_consumers_keep_each_key_in_order_and_to_one(cluster):
    keys, each = 8, 12
    control, exchange, queue = declare(cluster)
    held = {}  # key -> {consumer: unacked messages}
    order = {key: [] for key in range(keys)}
    had = set()

    def consumer(number):
        channel = cluster.channel(number)
        channel.basic_qos(prefetch_count=3)

        def take(channel, method, properties, body):
            # Half of the keys are named by the header, half are routing keys.
            header = (properties.headers or {}).get("x-group-key")
            key = int(header or method.routing_key)
            others = {it: count for it, count in held.get(key, {}).items() if it != number and count}
            assert not others, f"key {key} to {number}, and with {others}"
            mine = held.setdefault(key, {})
            mine[number] = mine.get(number, 0) + 1
            order[key].append(int(body))
            had.add(number)
            acks.append((channel, method.delivery_tag, key, number))

        channel.basic_consume(queue, take)
        return channel

    acks = []
    channels = [consumer(number) for number in range(16)]
    for number in range(each):
        for key in range(keys):
            if key % 2:
                control.basic_publish(exchange, "all", b"%d" % number, persistent(headers={"x-group-key": str(key)}))
            else:
                control.basic_publish(exchange, str(key), b"%d" % number, persistent())

    def done():
        taken, acks[:] = acks[:], []
        for channel, tag, key, number in taken:
            held[key][number] -= 1
            channel.basic_ack(tag)
        return sum(map(len, order.values())) == keys * each

    pump_until(channels, done)
    assert all(numbers == list(range(each)) for numbers in order.values()), order
    assert len(had) > 1, had


def test_groups_strict_key_waits_for_its_rejected_head_and_others_flow(cluster):
    control, exchange, queue = declare(cluster)
    got = []
    channels = []
    for number in range(2):
        channel = cluster.channel(number)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, lambda _, method, properties, body, number=number: got.append((number, method, body)))
        channels.append(channel)
    control.basic_publish(exchange, "a", b"a1", persistent())
    pump_until(channels, lambda: len(got) == 1)
    holder, method, _ = got[0]
    control.basic_publish(exchange, "a", b"a2", persistent())
    control.basic_publish(exchange, "b", b"b1", persistent())
    pump_until(channels, lambda: len(got) == 2)
    assert (got[1][0], got[1][2]) == (1 - holder, b"b1"), got
    channels[holder].basic_reject(method.delivery_tag, requeue=True)
    pump_until(channels, lambda: len(got) == 3)
    assert got[2][2] == b"a1" and got[2][1].redelivered, got
    channels[got[2][0]].basic_ack(got[2][1].delivery_tag)
    pump_until(channels, lambda: len(got) == 4)
    assert got[3][2] == b"a2", got


def test_groups_get_of_a_key_that_is_held_is_empty(cluster):
    control, exchange, queue = declare(cluster)
    for body in (b"1", b"2"):
        control.basic_publish(exchange, "a", body, persistent())
    first, second = cluster.channel(0), cluster.channel(1)
    taken = []

    def there():
        taken.append(first.basic_get(queue))
        return taken[-1][0] is not None

    until(there, "the first message")
    assert taken[-1][2] == b"1"
    assert second.basic_get(queue)[0] is None
    first.basic_ack(taken[-1][0].delivery_tag)
    again = []

    def next_there():
        again.append(second.basic_get(queue, auto_ack=True))
        return again[-1][0] is not None

    until(next_there, "the second message")
    assert again[-1][2] == b"2"
