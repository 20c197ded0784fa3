"""Queues that end by themselves: auto-delete with their last consumer, x-expires when idle."""

import time

import pika
from cluster import until


def is_there(cluster, queue, node=0):
    channel = cluster.channel(node)
    try:
        channel.queue_declare(queue, passive=True)
        channel.connection.close()
        return True
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404, closed
        channel.connection.close()
        return False


def gone_everywhere(cluster, queue):
    return not any(is_there(cluster, queue, node) for node in range(3))


def test_auto_delete_queue_goes_with_its_last_consumer(cluster):
    queue = cluster.name("auto")
    owner = cluster.channel()
    owner.queue_declare(queue, auto_delete=True)
    owner.basic_publish("", queue, b"x")
    until(lambda: owner.basic_get(queue, auto_ack=True)[2] == b"x", "the message of a get")
    assert is_there(cluster, queue), "a get is no consumer"
    tags = [owner.basic_consume(queue, lambda *_: None)]
    other = cluster.channel(1)
    other.basic_consume(queue, lambda *_: None)
    owner.basic_cancel(tags[0])
    time.sleep(0.3)
    assert is_there(cluster, queue), "one consumer is left"
    other.connection.close()
    until(lambda: gone_everywhere(cluster, queue), "the end of the queue")
    owner.queue_declare(queue, durable=True)
    assert is_there(cluster, queue), "a queue of the same name is another"
    owner.queue_delete(queue)


def test_idle_queue_expires_and_a_declare_puts_it_off(cluster):
    queue, busy = cluster.name("expires"), cluster.name("busy")
    channel = cluster.channel()
    arguments = {"x-expires": 1500}
    channel.queue_declare(queue, arguments=arguments)
    channel.queue_declare(busy, arguments=arguments)
    channel.basic_consume(busy, lambda *_: None)
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        channel.queue_declare(queue, arguments=arguments)
        channel.connection.process_data_events(0.2)
    assert is_there(cluster, queue) and is_there(cluster, busy)
    until(lambda: gone_everywhere(cluster, queue), "the end of the idle queue", channel.connection)
    assert is_there(cluster, busy), "it has a consumer"
    channel.queue_delete(busy)
