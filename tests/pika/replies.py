"""Direct replies: requests with reply_to `amq.rabbitmq.reply-to`, answered without a queue."""

import pika

from cluster import connection_refused, refused, until

DIRECT = "amq.rabbitmq.reply-to"


def _ask(cluster, ask_node, serve_node):
    requests = cluster.name("direct")
    server, client = cluster.connect(serve_node), cluster.connect(ask_node)
    serving, asking = server.channel(), client.channel()
    serving.queue_declare(requests)

    def serve(channel, method, properties, body):
        assert properties.reply_to.startswith(DIRECT + "."), properties.reply_to
        answer = pika.BasicProperties(correlation_id=properties.correlation_id, content_type="text/plain")
        channel.basic_publish("", properties.reply_to, body[::-1], answer)
        channel.basic_ack(method.delivery_tag)

    serving.basic_consume(requests, serve)
    answers = []
    asking.basic_consume(DIRECT, lambda _c, m, p, b: answers.append((p.correlation_id, p.content_type, b)), auto_ack=True)
    for number in range(20):
        properties = pika.BasicProperties(reply_to=DIRECT, correlation_id=str(number))
        asking.basic_publish("", requests, b"abc", properties)

        def answered():
            server.process_data_events(time_limit=0.005)
            client.process_data_events(time_limit=0.005)
            return len(answers) > number

        until(answered, f"the answer to {number}")
    assert answers == [(str(number), "text/plain", b"cba") for number in range(20)], answers
    serving.queue_delete(requests)


def test_direct_reply_reaches_its_asker_on_the_same_node(cluster):
    _ask(cluster, 0, 0)


def test_direct_reply_reaches_its_asker_on_another_node(cluster):
    _ask(cluster, 0, 1)
    _ask(cluster, 2, 1)


def _address(cluster, asking):
    """The address a request of this channel carries."""
    queue = cluster.name("address")
    asking.queue_declare(queue)
    asking.basic_publish("", queue, b"x", pika.BasicProperties(reply_to=DIRECT))
    found = []

    def got():
        method, properties, _ = asking.basic_get(queue, auto_ack=True)
        if method:
            found.append(properties.reply_to)
        return found

    until(got, "the request")
    asking.queue_delete(queue)
    return found[0]


def test_addresses_differ_per_channel_and_passive_declare_tells_who_waits(cluster):
    connection = cluster.connect(0)
    one, two = connection.channel(), connection.channel()
    one.basic_consume(DIRECT, lambda *_: None, auto_ack=True, consumer_tag="one")
    two.basic_consume(DIRECT, lambda *_: None, auto_ack=True)
    first, second = _address(cluster, one), _address(cluster, two)
    assert first != second
    for node in range(3):
        assert cluster.channel(node).queue_declare(first, passive=True).method.consumer_count == 1
    one.basic_cancel("one")
    for node in range(3):
        refused(404, lambda: cluster.channel(node).queue_declare(first, passive=True))
    cluster.channel(1).queue_declare(second, passive=True)
    connection.close()
    refused(404, lambda: cluster.channel(1).queue_declare(second, passive=True))


def test_forged_address_reaches_nobody(cluster):
    asking = cluster.channel(0)
    got = []
    asking.basic_consume(DIRECT, lambda _c, _m, _p, body: got.append(body), auto_ack=True)
    address = _address(cluster, asking)
    forged = address[:-1] + ("0" if address[-1] != "0" else "1")
    other = cluster.channel(1)
    other.confirm_delivery()
    for key in (forged, DIRECT + ".1", DIRECT + ".zz.1", DIRECT):
        other.basic_publish("", key, b"forged")
    other.basic_publish("", address, b"true")
    until(lambda: got, "the true answer", asking.connection)
    assert got == [b"true"], got


def test_misuse_of_direct_replies_is_406(cluster):
    refused(406, lambda: cluster.channel().basic_consume(DIRECT, lambda *_: None))
    twice = cluster.channel()
    twice.basic_consume(DIRECT, lambda *_: None, auto_ack=True)
    refused(406, lambda: twice.basic_consume(DIRECT, lambda *_: None, auto_ack=True))
    without = cluster.channel()

    def publish():
        without.basic_publish("", "q", b"x", pika.BasicProperties(reply_to=DIRECT))
        without.basic_qos(prefetch_count=1)

    refused(406, publish)


def test_direct_reply_address_cannot_be_bound(cluster):
    asking = cluster.channel()
    asking.basic_consume(DIRECT, lambda *_: None, auto_ack=True)
    address = _address(cluster, asking)
    refused(403, lambda: cluster.channel().queue_bind(address, "amq.direct", "k"))


def test_unroutable_mandatory_reply_on_this_node_comes_back(cluster):
    channel = cluster.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", DIRECT + ".1.0", b"x", mandatory=True)
    except pika.exceptions.UnroutableError as error:
        assert error.messages[0].body == b"x"
    else:
        raise AssertionError("not returned")


def test_consumer_tag_of_replies_cannot_be_used_twice(cluster):
    queue = cluster.name("tag")
    cluster.channel().queue_declare(queue)
    channel = cluster.channel()
    channel.basic_consume(DIRECT, lambda *_: None, auto_ack=True, consumer_tag="t")
    raw = pika.spec.Basic.Consume(queue=queue, consumer_tag="t")

    def again():
        channel._impl._send_method(raw)
        for _ in range(200):
            channel.connection.process_data_events(time_limit=0.05)

    connection_refused(530, again)
    cluster.channel().queue_delete(queue)
