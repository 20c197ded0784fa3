"""Publishing: durable queue, persistent messages, confirms, returns."""

import pika

from cluster import persistent, until


def test_producer_with_confirms_stores_every_message(cluster):
    queue = cluster.name("durable")
    channel = cluster.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(100):
        channel.basic_publish("", queue, f"message {number}", persistent(), mandatory=True)
    declared = channel.queue_declare(queue, durable=True, passive=True)
    assert declared.method.message_count == 100, declared
    seen = cluster.channel(1).queue_declare(queue, passive=True)
    assert seen.method.message_count == 100, seen
    assert channel.queue_delete(queue).method.message_count == 100


def test_large_and_empty_messages_come_back_as_they_went(cluster):
    queue = cluster.name("sizes")
    channel = cluster.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    bodies = [b"", b"x", bytes(range(256)) * 17, b"0123456789abcdef" * 65536, b"end"]
    for body in bodies:
        channel.basic_publish("", queue, body, persistent())
    reader = cluster.channel(1)
    got = []
    for _, _, body in reader.consume(queue, auto_ack=True, inactivity_timeout=15):
        assert body is not None, f"only {len(got)} of {len(bodies)} came"
        got.append(body)
        if len(got) == len(bodies):
            break
    assert got == bodies
    reader.cancel()
    channel.queue_delete(queue)


def test_properties_survive(cluster):
    queue = cluster.name("properties")
    channel = cluster.channel()
    channel.queue_declare(queue)
    sent = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={"number": 7, "text": "ä", "nested": {"list": [1, "two", True]}},
        delivery_mode=1,
        priority=3,
        correlation_id="c-1",
        reply_to="somewhere",
        message_id="m-1",
        timestamp=1_700_000_000,
        type="kind",
        user_id="guest",
        app_id="app",
    )
    channel.basic_publish("", queue, b"{}", sent)
    method, got, body = channel.basic_get(queue, auto_ack=True)
    assert method is not None and body == b"{}"
    for key in vars(sent):
        assert getattr(got, key) == getattr(sent, key), f"{key}: {getattr(got, key)!r} != {getattr(sent, key)!r}"
    channel.queue_delete(queue)


def test_unroutable_mandatory_message_is_returned_before_its_confirm(cluster):
    channel = cluster.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", cluster.name("nowhere"), b"back", mandatory=True)
    except pika.exceptions.UnroutableError as error:
        (returned,) = error.messages
        assert returned.body == b"back"
        assert returned.method.reply_code == 312, returned.method
        assert returned.method.reply_text == "NO_ROUTE", returned.method
    else:
        raise AssertionError("not returned")


def test_unroutable_message_is_confirmed(cluster):
    channel = cluster.channel()
    channel.confirm_delivery()
    channel.basic_publish("", cluster.name("nowhere"), b"gone")


def test_return_without_confirms_reaches_the_callback(cluster):
    connection = cluster.connect()
    channel = connection.channel()
    returned = []
    channel.add_on_return_callback(lambda *message: returned.append(message))
    channel.basic_publish("", cluster.name("nowhere"), b"back", mandatory=True)
    until(lambda: returned, "the return", connection)
    assert returned[0][3] == b"back"


def test_publishes_reach_the_queue_before_what_is_asked_next(cluster):
    queue = cluster.name("order")
    channel = cluster.channel()
    channel.queue_declare(queue)
    for _ in range(20):
        channel.basic_publish("", queue, b"x")
    assert channel.queue_declare(queue, passive=True).method.message_count == 20
    assert channel.queue_purge(queue).method.message_count == 20
    assert channel.queue_declare(queue, passive=True).method.message_count == 0
    channel.queue_delete(queue)
