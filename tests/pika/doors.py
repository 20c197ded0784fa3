"""The AMQP side of `tests/api/tests/doors.rs`, which is the gRPC side: one message through both doors, a request answered there, a queue shared."""

import datetime
import decimal
import json

import pika

from cluster import persistent, until

DIRECT = "amq.rabbitmq.reply-to"
WHEN = 1_700_000_000
# As the gRPC side publishes it, and expects it from here.
TEXTS = {
    "content_type": "application/json",
    "content_encoding": "gzip",
    "correlation_id": "c-1",
    "reply_to": "answers",
    "message_id": "m-1",
    "type": "order.placed",
    "user_id": "guest",
    "app_id": "shop",
    "cluster_id": "old",
    "expiration": "600000",
}
NUMBERS = {"delivery_mode": 2, "priority": 7, "timestamp": WHEN}
# pika mixes up signed and unsigned bytes, cuts what is behind the point of a double, and cannot send one.
HEADERS = {
    "text": "größe",
    "bytes": b"\x00\xff",
    "yes": True,
    "small": -7,
    "byte": 100,
    "word": 60_000,
    "int": -70_000,
    "unsigned": 4_000_000_000,
    "long": -5_000_000_000,
    "double": 2.0,
    "decimal": decimal.Decimal("12.34"),
    "when": datetime.datetime.fromtimestamp(WHEN, tz=datetime.timezone.utc),
    "nothing": None,
    "table": {"inner": "deep", "list": ["a", 1, None]},
    "list": [1, "two", {"three": 3}],
}


def _from_grpc(cluster, queue):
    channel, found = cluster.channel(), []

    def there():
        found.append(channel.basic_get(queue, auto_ack=True))
        return found[-1][0] is not None

    until(there, "the message that was published over gRPC")
    method, properties, body = found[-1]
    assert body == b"from grpc" and method.exchange == "" and method.routing_key == queue, (method, body)
    for name, value in {**TEXTS, **NUMBERS}.items():
        assert getattr(properties, name) == value, (name, getattr(properties, name))
    headers = dict(properties.headers)
    when = headers.pop("when")
    expected = {name: value for name, value in HEADERS.items() if name != "when"}
    assert when.replace(tzinfo=datetime.timezone.utc) == HEADERS["when"], when
    assert headers == expected, headers


def _to_grpc(cluster, queue):
    channel = cluster.channel()
    channel.confirm_delivery()
    headers = {name: value for name, value in HEADERS.items() if name != "double"}
    properties = pika.BasicProperties(headers=headers, **TEXTS, **NUMBERS)
    channel.basic_publish("", queue, b"from amqp", properties, mandatory=True)


def _ask(cluster, queue):
    """A request whose answer comes to this channel's own address."""
    channel, answers = cluster.channel(), []
    channel.basic_consume(DIRECT, lambda _c, _m, p, b: answers.append((p.correlation_id, p.content_type, b)), auto_ack=True)
    channel.basic_publish("", queue, b"question", pika.BasicProperties(reply_to=DIRECT, correlation_id="q-1"))
    until(lambda: bool(answers), "the answer", channel.connection)
    assert answers == [("q-1", "text/plain", b"answer")], answers


def _share(cluster, queue, ready):
    """Takes part in consuming a queue until it is told to stop; says which messages it got."""
    channel, got, stopped = cluster.channel(), [], []
    channel.basic_qos(prefetch_count=5)

    def take(_, method, __, body):
        if body == b"stop":
            stopped.append(True)
        else:
            got.append(int(body))
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue + ".stop", take)
    channel.basic_consume(queue, take)
    ready()
    until(lambda: bool(stopped), "the end of the shared queue", channel.connection)
    channel.basic_publish("", queue + ".seen", json.dumps(got).encode(), persistent())


def _limits(cluster, queue):
    """The queue is full, whoever filled it; and an exclusive consumer keeps everybody out."""
    channel = cluster.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", queue + ".full", b"one more", persistent())
    except pika.exceptions.NackError:
        pass
    else:
        raise AssertionError("a full queue took a message")
    try:
        channel.basic_consume(queue + ".taken", lambda *_: None)
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 403, error
    else:
        raise AssertionError("an exclusive consumer did not keep another out")


def both(cluster, queue):
    _from_grpc(cluster, queue + ".to-amqp")
    _to_grpc(cluster, queue + ".to-grpc")
    _limits(cluster, queue)
    _share(cluster, queue, lambda: print("READY", flush=True))
    _ask(cluster, queue + ".requests")
