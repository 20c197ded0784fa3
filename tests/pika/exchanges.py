"""Topic, headers, bindings between exchanges, alternate exchanges, CC and BCC."""

import time

import pika
from cluster import until
from routing import subscriber


def drain(channel, queue):
    got = []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return got
        got.append((body, properties))


def bodies(channel, queue):
    return [body for body, _ in drain(channel, queue)]


def queue_for(channel, exchange, key="", arguments=None):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, routing_key=key, arguments=arguments)
    return queue


def test_topics_tutorial(cluster):
    exchange = cluster.name("topic_logs")
    publisher = cluster.channel()
    publisher.exchange_declare(exchange, "topic")
    patterns = {"#": 4, "kern.*": 2, "*.critical": 2, "kern.#": 3}
    subscribers = [(subscriber(cluster, at % 3, exchange, [key]), count) for at, (key, count) in enumerate(patterns.items())]
    for key in ("kern.critical", "kern.info", "mail.critical", "kern"):
        publisher.basic_publish(exchange, key, key)
    for (connection, got), count in subscribers:
        until(lambda got=got, count=count: len(got) == count, "the matching messages", connection)
    publisher.exchange_delete(exchange)


def test_headers_all_and_any(cluster):
    channel = cluster.channel()
    exchange = cluster.name("headers")
    channel.exchange_declare(exchange, "headers")
    every = queue_for(channel, exchange, arguments={"x-match": "all", "format": "pdf", "pages": 2})
    some = queue_for(channel, exchange, arguments={"x-match": "any", "format": "pdf", "pages": 2})
    channel.confirm_delivery()
    for name, headers in (("both", {"format": "pdf", "pages": 2}), ("one", {"format": "pdf"}), ("type", {"pages": "2"})):
        channel.basic_publish(exchange, "", name, pika.BasicProperties(headers=headers))
    assert bodies(channel, every) == [b"both"]
    assert bodies(channel, some) == [b"both", b"one"]
    try:
        channel.queue_bind(every, exchange, arguments={"x-match": "most"})
        raise AssertionError("an unknown x-match was accepted")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 406, closed


def test_exchange_bound_to_exchange(cluster):
    channel = cluster.channel()
    source, target = cluster.name("source"), cluster.name("target")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(target, "fanout")
    queue = queue_for(channel, target)
    channel.exchange_bind(target, source, routing_key="orders.#")
    channel.exchange_bind(source, target)
    channel.confirm_delivery()
    channel.basic_publish(source, "orders.eu", b"routed", mandatory=True)
    try:
        channel.basic_publish(source, "other", b"lost", mandatory=True)
        raise AssertionError("no message was returned")
    except pika.exceptions.UnroutableError:
        pass
    channel.exchange_unbind(target, source, routing_key="orders.#")
    channel.exchange_unbind(target, source, routing_key="orders.#")
    channel.basic_publish(source, "orders.eu", b"unbound")
    assert bodies(channel, queue) == [b"routed"]
    other = cluster.channel(1)
    try:
        other.exchange_bind(target, cluster.name("missing"))
        raise AssertionError("a missing source was accepted")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404, closed
    other = cluster.channel(1)
    try:
        other.exchange_bind("", source)
        raise AssertionError("the default exchange was bound")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 403, closed
    channel.exchange_delete(source)
    channel.exchange_delete(target)


def test_alternate_exchange(cluster):
    channel = cluster.channel()
    exchange, rest = cluster.name("main"), cluster.name("rest")
    channel.exchange_declare(rest, "fanout")
    channel.exchange_declare(exchange, "direct", arguments={"alternate-exchange": rest})
    queue, others = queue_for(channel, exchange, "k"), queue_for(channel, rest)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "k", b"bound", mandatory=True)
    channel.basic_publish(exchange, "other", b"alternate", mandatory=True)
    assert bodies(channel, queue) == [b"bound"]
    assert bodies(channel, others) == [b"alternate"]
    channel.exchange_delete(exchange)
    channel.exchange_delete(rest)


def test_internal_exchange_refuses_publishes(cluster):
    channel = cluster.channel()
    exchange = cluster.name("internal")
    channel.exchange_declare(exchange, "fanout", internal=True)
    channel.confirm_delivery()
    try:
        channel.basic_publish(exchange, "", b"x")
        raise AssertionError("it took a publish")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 403, closed
        wanted = f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'"
        assert closed.reply_text == wanted, closed
    cluster.channel().exchange_delete(exchange)


def test_cc_and_bcc(cluster):
    channel = cluster.channel()
    exchange = cluster.name("copies")
    channel.exchange_declare(exchange, "direct")
    queues = {key: queue_for(channel, exchange, key) for key in ("to", "cc", "bcc")}
    channel.queue_bind(queues["to"], exchange, routing_key="cc")
    channel.confirm_delivery()
    headers = {"CC": ["cc"], "BCC": ["bcc"]}
    channel.basic_publish(exchange, "to", b"x", pika.BasicProperties(headers=headers))
    for key, queue in queues.items():
        got = drain(channel, queue)
        assert len(got) == 1, (key, got)
        assert got[0][1].headers == {"CC": ["cc"]}, got[0][1].headers
    other = cluster.channel()
    other.confirm_delivery()
    try:
        other.basic_publish(exchange, "to", b"x", pika.BasicProperties(headers={"CC": "cc"}))
        raise AssertionError("a CC that is no list was accepted")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 406, closed
    channel.exchange_delete(exchange)


def test_hash_and_delayed_types_are_known(cluster):
    channel = cluster.channel()
    exchange = cluster.name("hash")
    channel.exchange_declare(exchange, "x-consistent-hash")
    queues = [queue_for(channel, exchange, "1") for _ in range(2)]
    channel.confirm_delivery()
    for number in range(40):
        channel.basic_publish(exchange, f"key-{number}", str(number))
    counts = [len(bodies(channel, queue)) for queue in queues]
    assert sum(counts) == 40 and min(counts) > 5, counts
    channel.exchange_delete(exchange)
    delayed = cluster.name("delayed")
    channel.exchange_declare(delayed, "x-delayed-message", arguments={"x-delayed-type": "topic"})
    queue = queue_for(channel, delayed, "k.*")
    began = time.monotonic()
    channel.basic_publish(delayed, "k.1", b"later", pika.BasicProperties(headers={"x-delay": 400}), mandatory=True)
    channel.basic_publish(delayed, "k.2", b"now")
    got = []
    until(lambda: len(got) == 2 or got.extend(drain(channel, queue)), "both messages")
    assert [body for body, _ in got] == [b"now", b"later"], got
    assert time.monotonic() - began >= 0.4
    assert got[1][1].headers == {"x-delay": -400}, got[1][1].headers
    # It is routed when it is due: by what is bound then, and nothing of its death is on it.
    wait = pika.BasicProperties(headers={"x-delay": 700}, expiration="60000")
    channel.basic_publish(delayed, "k.3", b"unbound meanwhile", wait, mandatory=True)
    channel.basic_publish(delayed, "late.1", b"bound meanwhile", wait, mandatory=True)
    late = queue_for(channel, delayed, "late.*")
    channel.queue_unbind(queue, delayed, "k.*")
    until(lambda: len(got) == 3 or got.extend(drain(channel, late)), "the message that is due")
    body, properties = got[2]
    assert body == b"bound meanwhile", got
    assert properties.headers == {"x-delay": -700} and properties.expiration == "60000", properties
    channel.queue_bind(queue, delayed, "k.*")
    channel.basic_publish(delayed, "k.4", b"last")
    until(lambda: len(got) == 4 or got.extend(drain(channel, queue)), "the last message")
    assert got[3][0] == b"last", got
    channel.exchange_delete(delayed)
    try:
        channel.exchange_declare(cluster.name("later"), "x-delayed-message")
        raise AssertionError("x-delayed-type was not asked for")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 406, closed


def test_upstream_of_a_federation(cluster):
    # What RabbitMQ's federation plugin does at its upstream: an exchange of its own, bound as its downstream's is.
    channel = cluster.channel()
    exchange, inner = cluster.name("federated"), cluster.name("federation: federated -> b")
    channel.exchange_declare(exchange, "topic")
    channel.exchange_delete(inner)
    arguments = {"x-max-hops": 1, "x-downstream-name": "b", "x-downstream-vhost": "/", "x-internal-purpose": "federation"}
    for _ in range(2):
        channel.exchange_declare(inner, "x-federation-upstream", durable=True, internal=True, auto_delete=True, arguments=arguments)
    bound_from = [{"cluster-name": "b", "vhost": "/", "exchange": exchange, "hops": 1}]
    channel.exchange_bind(inner, exchange, "eu.#", {"x-bound-from": bound_from})
    queue = queue_for(channel, inner)
    channel.confirm_delivery()
    for key in ("eu.1", "us.1"):
        channel.basic_publish(exchange, key, key)
    assert bodies(channel, queue) == [b"eu.1"]
    channel.queue_delete(queue)
    try:
        channel.exchange_declare(inner, passive=True)
        raise AssertionError("it outlived its last binding")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404, closed
