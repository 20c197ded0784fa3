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
    text = refused(406, lambda: cluster.channel(1).queue_declare(queue, durable=False))
    wanted = f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'false' but current is 'true'"
    assert text == f"PRECONDITION_FAILED - {wanted}", text
    ttl = {"x-message-ttl": 1000}
    text = refused(406, lambda: cluster.channel(2).queue_declare(queue, durable=True, arguments=ttl))
    wanted = f"inequivalent arg 'x-message-ttl' for queue '{queue}' in vhost '/': "
    assert text.startswith(f"PRECONDITION_FAILED - {wanted}received the value '1000' of type"), text
    assert text.endswith("but current is none"), text
    cluster.channel().queue_delete(queue)


def test_inequivalent_exchange_is_406(cluster):
    exchange = cluster.name("unequal")
    cluster.channel().exchange_declare(exchange, "topic", durable=True)
    text = refused(406, lambda: cluster.channel(1).exchange_declare(exchange, "direct", durable=True))
    wanted = f"inequivalent arg 'type' for exchange '{exchange}' in vhost '/': received 'direct' but current is 'topic'"
    assert text == f"PRECONDITION_FAILED - {wanted}", text
    refused(406, lambda: cluster.channel(1).exchange_declare(exchange, "topic", durable=True, internal=True))
    cluster.channel(2).exchange_declare(exchange, "topic", durable=True)
    cluster.channel().exchange_delete(exchange)


def test_reserved_name_is_403(cluster):
    refused(403, lambda: cluster.channel().queue_declare("amq.mine"))
    text = refused(403, lambda: cluster.channel().exchange_declare("amq.mine", "direct"))
    assert text == "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'", text
    refused(403, lambda: cluster.channel().exchange_delete("amq.topic"))


def test_default_exchange_takes_no_operation(cluster):
    queue = cluster.name("unbound")
    cluster.channel().queue_declare(queue)
    for action in (
        lambda channel: channel.queue_bind(queue, "", "k"),
        lambda channel: channel.queue_unbind(queue, "", "k"),
        lambda channel: channel.exchange_delete(""),
    ):
        channel = cluster.channel()
        text = refused(403, lambda action=action, channel=channel: action(channel))
        assert text == "ACCESS_REFUSED - operation not permitted on the default exchange", text
    cluster.channel().queue_delete(queue)


def test_exclusive_flag_that_differs_is_405(cluster):
    queue = cluster.name("locked")
    owner = cluster.channel()
    owner.queue_declare(queue, exclusive=True)
    text = refused(405, lambda: owner.queue_declare(queue))
    wanted = f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be"
    assert text.startswith(wanted), text
    text = refused(405, lambda: cluster.channel(1).queue_bind(queue, "amq.direct", "k"))
    assert text.startswith(wanted), text


def test_binding_needs_both_ends(cluster):
    queue, exchange = cluster.name("queue"), cluster.name("exchange")
    cluster.channel().queue_declare(queue)
    text = refused(404, lambda: cluster.channel(1).queue_bind(queue, exchange, "k"))
    assert text == f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", text
    text = refused(404, lambda: cluster.channel(2).queue_bind(exchange, "amq.topic", "k"))
    assert text == f"NOT_FOUND - no queue '{exchange}' in vhost '/'", text
    cluster.channel().queue_unbind(queue, exchange, "k")
    cluster.channel().queue_delete(queue)


def test_exchange_in_use_is_kept(cluster):
    queue, exchange = cluster.name("queue"), cluster.name("used")
    channel = cluster.channel()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange)
    text = refused(406, lambda: cluster.channel(1).exchange_delete(exchange, if_unused=True))
    assert text == f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use", text
    channel.queue_delete(queue)
    channel.exchange_delete(exchange, if_unused=True)


def test_unknown_exchange_is_404(cluster):
    channel = cluster.channel()
    exchange = cluster.name("nowhere")

    def publish():
        channel.basic_publish(exchange, "k", b"x")
        channel.basic_qos(prefetch_count=1)  # has an answer, and the channel is closed before it

    text = refused(404, publish)
    assert text == f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", text


def _refused_publish(cluster, expected, properties):
    channel = cluster.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue

    def publish():
        channel.basic_publish("", queue, b"x", properties)
        channel.basic_qos(prefetch_count=1)  # has an answer, and the channel is closed before it

    return refused(expected, publish)


def test_expiration_that_is_no_number_is_406(cluster):
    for expiration in ("soon", "-1", "1.5", ""):
        _refused_publish(cluster, 406, pika.BasicProperties(expiration=expiration))


def test_user_id_of_somebody_else_is_406(cluster):
    _refused_publish(cluster, 406, pika.BasicProperties(user_id="somebody"))
    channel = cluster.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="guest"))
    assert channel.basic_get(queue, auto_ack=True)[1].user_id == "guest"


def test_header_cc_that_is_no_list_is_406(cluster):
    _refused_publish(cluster, 406, pika.BasicProperties(headers={"CC": "one"}))


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
