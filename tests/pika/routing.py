"""Publish/subscribe with fanout, routing with direct."""

from cluster import until


def subscriber(cluster, node, exchange, keys):
    connection = cluster.connect(node)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert queue.startswith("amq.gen-"), queue
    for key in keys:
        channel.queue_bind(queue, exchange, routing_key=key)
    got = []
    channel.basic_consume(queue, lambda _c, method, _p, body: got.append((method.routing_key, body)), auto_ack=True)
    return connection, got


def test_fanout_reaches_every_subscriber(cluster):
    exchange = cluster.name("logs")
    publisher = cluster.channel()
    publisher.exchange_declare(exchange, "fanout")
    subscribers = [subscriber(cluster, node, exchange, [""]) for node in range(3)]
    for number in range(10):
        publisher.basic_publish(exchange, "ignored", str(number))
    expected = [("ignored", str(number).encode()) for number in range(10)]
    for connection, got in subscribers:
        until(lambda got=got: len(got) == 10, "all messages at a subscriber", connection)
        assert got == expected, got
    publisher.exchange_delete(exchange)


def test_direct_routes_by_key(cluster):
    exchange = cluster.name("direct")
    publisher = cluster.channel()
    publisher.exchange_declare(exchange, "direct")
    all_connection, everything = subscriber(cluster, 1, exchange, ["info", "warning", "error"])
    error_connection, errors = subscriber(cluster, 2, exchange, ["error"])
    for key in ("info", "error", "debug", "warning", "error"):
        publisher.basic_publish(exchange, key, key)
    until(lambda: len(everything) == 4, "the four", all_connection)
    until(lambda: len(errors) == 2, "the errors", error_connection)
    assert [key for key, _ in everything] == ["info", "error", "warning", "error"]
    assert [key for key, _ in errors] == ["error", "error"]
    publisher.exchange_delete(exchange)


def test_unbound_queue_gets_no_more(cluster):
    exchange, queue = cluster.name("unbind"), cluster.name("unbind")
    channel = cluster.channel()
    channel.exchange_declare(exchange, "direct", durable=True)
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, exchange, "k")
    channel.queue_bind(queue, exchange, "k")
    channel.basic_publish(exchange, "k", b"one")
    channel.queue_unbind(queue, exchange, "k")
    channel.basic_publish(exchange, "k", b"two")
    assert channel.queue_declare(queue, passive=True).method.message_count == 1
    channel.exchange_declare(exchange, passive=True)
    channel.exchange_delete(exchange)
    channel.queue_delete(queue)


def test_declared_on_one_node_is_there_on_the_others_at_once(cluster):
    channels = [cluster.channel(node) for node in range(3)]
    for number in range(5):
        queue = cluster.name(f"everywhere{number}")
        channels[number % 3].queue_declare(queue)
        other = channels[(number + 1) % 3]
        other.confirm_delivery() if number == 0 else None
        other.basic_publish("", queue, b"x", mandatory=True)
        assert other.queue_declare(queue, passive=True).method.message_count == 1
        other.queue_delete(queue)
