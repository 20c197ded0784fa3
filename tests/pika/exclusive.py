"""Exclusive and server-named queues."""

from cluster import refused


def test_exclusive_queue_is_locked_for_others(cluster):
    queue = cluster.name("mine")
    owner = cluster.channel()
    owner.queue_declare(queue, exclusive=True)
    refused(405, lambda: cluster.channel(1).queue_declare(queue, passive=True))
    refused(405, lambda: cluster.channel(1).basic_consume(queue, lambda *_: None))
    refused(405, lambda: cluster.channel(2).basic_get(queue))
    owner.queue_declare(queue, exclusive=True)


def test_exclusive_queue_is_gone_when_its_connection_has_closed(cluster):
    owner = cluster.connect()
    names = [owner.channel().queue_declare("", exclusive=True).method.queue for _ in range(3)]
    assert len(set(names)) == 3
    owner.close()
    for name in names:
        refused(404, lambda name=name: cluster.channel(1).queue_declare(name, passive=True))


def test_empty_name_means_the_last_declared_queue(cluster):
    channel = cluster.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"x")
    method, _, body = channel.basic_get("", auto_ack=True)
    assert body == b"x" and method.routing_key == queue
