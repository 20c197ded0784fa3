"""What is refused, and with which code."""

import pika

from cluster import connection_refused, refused


def test_passive_declare_of_a_missing_queue_is_404(cluster):
    queue = cluster.name("missing")
    text = refused(404, lambda: cluster.channel().queue_declare(queue, passive=True))
    assert text == f"NOT_FOUND - no queue '{queue}' in vhost '/'", text


def test_other_channels_go_on_after_a_refusal(cluster):
    connection = cluster.connect()
    broken, whole = connection.channel(), connection.channel()
    refused(404, lambda: broken.queue_declare(cluster.name("missing"), passive=True))
    queue = cluster.name("whole")
    whole.queue_declare(queue)
    whole.queue_delete(queue)


def test_double_ack_is_406(cluster):
    queue = cluster.name("double")
    channel = cluster.channel()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"x")
    method, _, _ = channel.basic_get(queue)

    def twice():
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)
        channel.basic_qos(prefetch_count=1)  # has an answer, and the channel is closed before it

    text = refused(406, twice)
    assert text == "PRECONDITION_FAILED - unknown delivery tag 1", text
    cluster.channel().queue_delete(queue)


def test_inequivalent_redeclare_is_406(cluster):
    queue = cluster.name("unequal")
    cluster.channel().queue_declare(queue, durable=True)
    refused(406, lambda: cluster.channel(1).queue_declare(queue, durable=False))
    cluster.channel().queue_delete(queue)


def test_reserved_name_is_403(cluster):
    refused(403, lambda: cluster.channel().queue_declare("amq.mine"))
    refused(403, lambda: cluster.channel().exchange_declare("amq.mine", "direct"))


def test_unknown_exchange_is_404(cluster):
    channel = cluster.channel()

    def publish():
        channel.basic_publish(cluster.name("nowhere"), "k", b"x")
        channel.basic_qos(prefetch_count=1)  # has an answer, and the channel is closed before it

    refused(404, publish)


def test_unknown_exchange_type_is_406(cluster):
    refused(406, lambda: cluster.channel().exchange_declare(cluster.name("odd"), "odd"))


def test_consume_from_a_missing_queue_is_404(cluster):
    refused(404, lambda: cluster.channel().basic_consume(cluster.name("missing"), lambda *_: None))


def test_reused_consumer_tag_is_530_and_ends_the_connection(cluster):
    queue = cluster.name("tags")
    cluster.channel().queue_declare(queue)
    channel = cluster.channel()
    raw = pika.spec.Basic.Consume(queue=queue, consumer_tag="t")
    channel.basic_consume(queue, lambda *_: None, consumer_tag="t")

    def again():
        # pika itself refuses a second tag of the same name: the method is sent past it.
        channel._impl._send_method(raw)
        for _ in range(200):
            channel.connection.process_data_events(time_limit=0.05)

    connection_refused(530, again)
    cluster.channel().queue_delete(queue)


def test_conditions_of_a_deletion(cluster):
    queue = cluster.name("conditions")
    channel = cluster.channel()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"x")
    refused(406, lambda: channel.queue_delete(queue, if_empty=True))
    consumer = cluster.channel(1)
    consumer.basic_consume(queue, lambda *_: None)
    refused(406, lambda: cluster.channel().queue_delete(queue, if_unused=True))
    consumer.connection.close()
    cluster.channel().queue_delete(queue)


def test_delete_of_a_missing_queue_or_exchange_succeeds(cluster):
    channel = cluster.channel()
    assert channel.queue_delete(cluster.name("missing")).method.message_count == 0
    channel.exchange_delete(cluster.name("missing"))


def test_wrong_password_is_refused(cluster):
    try:
        cluster.connect(password="wrong")
    except pika.exceptions.ProbableAuthenticationError as error:
        assert "403" in str(error), error
    else:
        raise AssertionError("let in")


def test_unknown_vhost_is_530(cluster):
    try:
        cluster.connect(vhost="nowhere")
    except pika.exceptions.AMQPConnectionError as error:
        assert "530" in str(error), error
    else:
        raise AssertionError("opened")
