"""basic.get."""

from cluster import until


def test_get_from_an_empty_queue_says_so(cluster):
    queue = cluster.name("empty")
    channel = cluster.channel()
    channel.queue_declare(queue)
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_get_tells_how_many_are_left(cluster):
    queue = cluster.name("get")
    channel = cluster.channel()
    channel.queue_declare(queue)
    for number in range(3):
        channel.basic_publish("", queue, str(number))
    for number in range(3):
        method, _, body = channel.basic_get(queue)
        assert body == str(number).encode()
        assert method.message_count == 2 - number, method
        channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_get_from_another_node(cluster):
    queue = cluster.name("far")
    channel = cluster.channel(0)
    channel.queue_declare(queue)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"here")
    for node in (1, 2):
        other = cluster.channel(node)
        method, _, body = other.basic_get(queue)
        assert body == b"here"
        other.basic_nack(method.delivery_tag)
        until(
            lambda: channel.queue_declare(queue, passive=True).method.message_count == 1,
            "the message is ready again",
        )
    channel.queue_delete(queue)


def test_purge_leaves_what_is_unacked_and_tells_how_many(cluster):
    queue = cluster.name("purge")
    channel = cluster.channel()
    channel.queue_declare(queue)
    for number in range(5):
        channel.basic_publish("", queue, str(number))
    held = channel.basic_get(queue)[0]
    assert cluster.channel(1).queue_purge(queue).method.message_count == 4
    channel.basic_nack(held.delivery_tag)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert body == b"0" and method.redelivered, (body, method)
    assert channel.queue_delete(queue).method.message_count == 0


def test_get_without_ack_settles(cluster):
    queue = cluster.name("noack")
    channel = cluster.channel()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"x")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"x"
    channel.connection.close()
    again = cluster.channel(1)
    assert again.basic_get(queue) == (None, None, None)
    again.queue_delete(queue)
