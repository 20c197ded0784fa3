"""Consumer timeout: a delivery that is not settled in time costs its channel, and comes back."""

import time

import pika

from cluster import persistent, refused, until


def _queue(cluster, **arguments):
    channel, queue = cluster.channel(), cluster.name("timeout")
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"slow", persistent())
    return queue


def _late(cluster, queue, timeout, **options):
    """Takes a delivery, does not settle it, and is told."""
    channel, got = cluster.channel(1), []
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


def _is_back(cluster, queue):
    channel, found = cluster.channel(2), []

    def there():
        found.append(channel.basic_get(queue))
        return found[-1][0] is not None

    until(there, "the message is back")
    assert found[-1][0].redelivered
    channel.basic_ack(found[-1][0].delivery_tag)


def test_timeout_of_the_queue_closes_the_channel_and_the_delivery_returns(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 300})
    _late(cluster, queue, 300)
    _is_back(cluster, queue)


def test_timeout_of_the_consumer_comes_before_its_queues(cluster):
    queue = _queue(cluster, **{"x-consumer-timeout": 600000})
    _late(cluster, queue, 200, arguments={"x-consumer-timeout": 200})
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
