"""Priorities as RabbitMQ's programs use them: `x-max-priority`, and what a message without one counts as."""

from cluster import persistent, refused, until


def _taken(cluster, queue, count):
    """The bodies of so many messages, in the order in which one consumer gets them."""
    channel, got = cluster.channel(1), []
    channel.basic_qos(prefetch_count=1)

    def take(_, method, __, body):
        got.append(body)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, take)
    until(lambda: len(got) == count, f"{count} deliveries", channel.connection)
    channel.close()
    return got


def _published(cluster, arguments, priorities):
    channel, queue = cluster.channel(), cluster.name("priority")
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    for priority in priorities:
        body = b"none" if priority is None else b"%d" % priority
        channel.basic_publish("", queue, body, persistent(priority=priority))
    return queue


def test_priorities_up_to_the_most_are_told_apart_and_none_is_lowest(cluster):
    queue = _published(cluster, {"x-max-priority": 5}, [None, 0, 3, 9, 5, 4, 255, 1])
    expected = [b"9", b"5", b"255", b"4", b"3", b"1", b"none", b"0"]
    assert _taken(cluster, queue, 8) == expected


def test_priorities_up_to_255_keep_their_order(cluster):
    queue = _published(cluster, {"x-max-priority": 255}, [0, 100, None, 200, 255, 50])
    assert _taken(cluster, queue, 6) == [b"255", b"200", b"100", b"50", b"0", b"none"]


def test_priorities_of_dead_letters_count_as_their_new_queue_counts(cluster):
    channel, grave = cluster.channel(), cluster.name("grave")
    channel.queue_declare(grave, durable=True, arguments={"x-max-priority": 10})
    away = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave, "x-message-ttl": 50}
    queue = _published(cluster, away, [None, 2, 7])
    until(lambda: channel.queue_declare(grave, passive=True).method.message_count == 3, "three dead letters")
    assert _taken(cluster, grave, 3) == [b"7", b"2", b"none"]
    assert channel.queue_declare(queue, passive=True).method.message_count == 0


def test_priorities_beyond_255_or_of_another_type_are_refused(cluster):
    for value in (256, -1, "ten"):
        channel = cluster.channel()
        refused(406, lambda: channel.queue_declare(cluster.name("bad"), arguments={"x-max-priority": value}))
