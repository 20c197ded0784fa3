"""Consumer timeout: a delivery that is not settled in time comes back, and costs its consumer; or its channel, where a client knows no better."""

import time

import pika

from cluster import persistent, refused, until


def _queue(cluster, **arguments):
    channel, queue = cluster.channel(), cluster.name("timeout")
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"slow", persistent())
    return queue


# A client that does not understand basic.cancel from a server.
DEAF = {"capabilities": {"basic.nack": True, "publisher_confirms": True}}


def _late(cluster, queue, timeout, **options):
    """Takes a delivery, does not settle it, and loses its channel."""
    channel, got = cluster.connect(1, client_properties=DEAF).channel(), []
    channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method), **options)

    def wait():
        until(lambda: not channel.is_open, "the channel is closed", channel.connection)
        channel.basic_qos(prefetch_count=1)

    try:
        wait()
    except pika.exceptions.ChannelClosedByBroker as error:
        text = error.reply_text
        assert error.reply_code == 406, error
        assert "delivery acknowledgement on channel" in text and f"Timeout value used: {timeout} ms" in text, text
    except pika.exceptions.ChannelWrongStateError:
        pass
    assert len(got) == 1 and not channel.is_open and channel.connection.is_open


def _cancelled(cluster, queue, **options):
    """Takes a delivery, does not settle it, and its consumer is cancelled; gives the channel and the delivery."""
    channel, got, cancelled = cluster.channel(1), [], []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    channel.basic_qos(prefetch_count=1)
    tag = channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method), **options)
    until(lambda: bool(cancelled), "the consumer is cancelled", channel.connection)
    assert cancelled == [tag] and len(got) == 1 and channel.is_open, (cancelled, got)
    return channel, got[0]


def _is_back(cluster, queue):
    channel, found = cluster.channel(2), []

    def there():
        found.append(channel.basic_get(queue))
        return found[-1][0] is not None

    until(there, "the message is back")
    method, properties, _ = found[-1]
    assert method.redelivered and properties.headers["x-delivery-count"] == 1, properties
    channel.basic_ack(method.delivery_tag)


def test_timeout_of_the_queue_cancels_the_consumer_and_the_delivery_returns(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 300})
    channel, late = _cancelled(cluster, queue)
    _is_back(cluster, queue)
    # A late ack is not an error, and settles nothing.
    channel.basic_ack(late.delivery_tag)
    declared = channel.queue_declare(queue, passive=True)
    assert declared.method.message_count == 0 and channel.is_open


def test_timeout_of_the_consumer_comes_before_its_queues(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 600000})
    _cancelled(cluster, queue, arguments={"x-consumer-timeout": 200})
    _is_back(cluster, queue)


def test_timeout_leaves_what_is_not_late_and_the_other_consumers_of_the_channel(cluster):
    queue, other = _queue(cluster, **{"x-consumer-timeout": 3000}), _queue(cluster)
    channel, got, cancelled = cluster.channel(1), [], []
    channel.confirm_delivery()
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(queue, lambda _c, method, _p, body: got.append((method, body)))
    others = []
    channel.basic_consume(other, lambda _c, method, _p, _b: others.append(method))
    until(lambda: len(got) == 1 and len(others) == 1, "the first deliveries", channel.connection)
    time.sleep(1.5)
    channel.basic_publish("", queue, b"later", persistent())
    until(lambda: len(got) == 2, "the second delivery", channel.connection)
    until(lambda: cancelled == [tag], "the consumer is cancelled", channel.connection)
    # The second delivery is the client's still; the first one is back, and nobody gives it to a consumer that was cancelled.
    channel.basic_ack(got[1][0].delivery_tag)
    _is_back(cluster, queue)
    channel.basic_ack(got[0][0].delivery_tag)
    channel.basic_publish("", other, b"next", persistent())
    until(lambda: len(others) == 2, "the other consumer goes on", channel.connection)
    assert len(got) == 2 and channel.is_open
    assert channel.basic_get(queue) == (None, None, None)
    # Its tag is free.
    channel.basic_consume(queue, lambda *_: None, consumer_tag=tag)


def test_timeout_costs_the_channel_of_a_client_that_does_not_know_cancels(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 300})
    _late(cluster, queue, 300)
    _is_back(cluster, queue)


def test_timeout_costs_the_channel_that_got_a_message_without_a_consumer(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 300})
    channel = cluster.channel(1)

    def got():
        return channel.basic_get(queue)[0] is not None

    until(got, "the message")

    def wait():
        until(lambda: not channel.is_open, "the channel is closed", channel.connection)
        channel.basic_qos(prefetch_count=1)

    try:
        wait()
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 406, error
    except pika.exceptions.ChannelWrongStateError:
        pass
    _is_back(cluster, queue)


def test_timeout_spares_those_who_settle_in_time(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 1500})
    channel, got = cluster.channel(1), []

    def take(_, method, __, ___):
        channel.basic_ack(method.delivery_tag)
        got.append(time.monotonic())

    channel.basic_consume(queue, take)
    # Together they take longer than any of them may.
    until(lambda: bool(got), "the first delivery", channel.connection)
    while got[-1] - got[0] < 2.0:
        seen = len(got)
        channel.basic_publish("", queue, b"next", persistent())
        until(lambda: len(got) > seen, "the next delivery", channel.connection)
    assert channel.is_open


def test_timeout_of_a_consumer_is_a_positive_integer(cluster):
    queue = _queue(cluster)
    for value in (0, -5, "soon"):
        channel = cluster.channel()
        refused(406, lambda: channel.basic_consume(queue, lambda *_: None, arguments={"x-consumer-timeout": value}))
