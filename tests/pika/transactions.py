"""tx.select, commit, rollback."""

import pika

from cluster import connection_refused, persistent, refused, until


def _queue(cluster, what):
    queue = cluster.name(what)
    cluster.channel().queue_declare(queue, durable=True)
    return queue


def _depth(cluster, queue):
    return cluster.channel(1).queue_declare(queue, passive=True).method.message_count


def test_publishes_are_there_after_commit_and_not_before(cluster):
    queues = [_queue(cluster, "tx") for _ in range(3)]
    channel = cluster.channel(2)
    channel.tx_select()
    for queue in queues:
        for number in range(5):
            channel.basic_publish("", queue, str(number).encode(), persistent())
    assert [_depth(cluster, queue) for queue in queues] == [0, 0, 0]
    channel.tx_commit()
    assert [_depth(cluster, queue) for queue in queues] == [5, 5, 5]
    bodies = [channel.basic_get(queues[0], auto_ack=True)[2] for _ in range(5)]
    assert bodies == [b"0", b"1", b"2", b"3", b"4"], bodies
    for queue in queues:
        cluster.channel().queue_delete(queue)


def test_rolled_back_publishes_are_never_there(cluster):
    queue = _queue(cluster, "rollback")
    channel = cluster.channel()
    channel.tx_select()
    channel.basic_publish("", queue, b"no", persistent())
    channel.tx_rollback()
    channel.basic_publish("", queue, b"yes", persistent())
    channel.tx_commit()
    assert _depth(cluster, queue) == 1
    assert channel.basic_get(queue, auto_ack=True)[2] == b"yes"
    cluster.channel().queue_delete(queue)


def test_rollback_gives_acks_back_and_requeues_nothing(cluster):
    queue = _queue(cluster, "acks")
    channel = cluster.channel()
    channel.basic_publish("", queue, b"x", persistent())
    until(lambda: _depth(cluster, queue) == 1, "the message")
    channel.tx_select()
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.basic_ack(tag)
    channel.tx_rollback()
    assert _depth(cluster, queue) == 0
    channel.basic_ack(tag)
    channel.tx_commit()
    channel.close()
    assert _depth(cluster, queue) == 0
    assert cluster.channel().queue_delete(queue).method.message_count == 0


def test_acks_without_commit_count_for_nothing(cluster):
    queue = _queue(cluster, "uncommitted")
    channel = cluster.channel()
    channel.basic_publish("", queue, b"x", persistent())
    until(lambda: _depth(cluster, queue) == 1, "the message")
    channel.tx_select()
    channel.basic_ack(channel.basic_get(queue)[0].delivery_tag)
    channel.close()
    until(lambda: _depth(cluster, queue) == 1, "the message is back")
    cluster.channel().queue_delete(queue)


def test_transactions_and_confirms_exclude_each_other(cluster):
    channel = cluster.channel()
    channel.tx_select()
    refused(406, channel.confirm_delivery)
    channel = cluster.channel()
    channel.confirm_delivery()
    refused(406, channel.tx_select)


def test_commit_or_rollback_without_select_is_406(cluster):
    refused(406, lambda: cluster.channel().tx_commit())
    refused(406, lambda: cluster.channel().tx_rollback())


def test_method_during_commit_is_504(cluster):
    queue = _queue(cluster, "busy")
    channel = cluster.channel()
    channel.tx_select()
    channel.basic_publish("", queue, b"x", persistent())
    # Both in one write: the commit cannot be over before the other is read.
    frames = [pika.frame.Method(channel.channel_number, it()).marshal() for it in (pika.spec.Tx.Commit, pika.spec.Basic.Qos)]

    def both():
        channel.connection._impl._output_marshaled_frames([b"".join(frames)])
        for _ in range(200):
            channel.connection.process_data_events(time_limit=0.05)

    connection_refused(504, both)
    cluster.channel().queue_delete(queue)
