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


def _group(cluster, what, **arguments):
    """Queues that share a shard: one that takes all, one that takes a single message."""
    group = {"x-placement-group": cluster.name(what)}
    channel = cluster.channel()
    names = [cluster.name(f"{what}.{part}") for part in ("in", "out", "full")]
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    for name, more in zip(names, ({}, {}, full)):
        channel.queue_declare(name, durable=True, arguments={**group, **more})
    return names


def _refused_commit(channel):
    text = refused(406, channel.tx_commit)
    assert text == "PRECONDITION_FAILED - partial tx completion", text


def _removed(cluster, queues):
    channel = cluster.channel()
    for queue in queues:
        channel.queue_delete(queue)


def test_publishes_to_one_shard_are_all_there_or_none(cluster):
    queues = _, out, full = _group(cluster, "together")
    for count in (1, 2, 1):
        channel = cluster.channel(1)
        channel.tx_select()
        before = _depth(cluster, out)
        for number in range(3):
            channel.basic_publish("", out, str(number).encode(), persistent())
        for _ in range(count):
            channel.basic_publish("", full, b"x", persistent())
        if (before, count) == (0, 1):
            channel.tx_commit()
            assert (_depth(cluster, out), _depth(cluster, full)) == (3, 1)
            cluster.channel().queue_purge(full)
        else:
            if count == 1:
                cluster.channel().basic_publish("", full, b"x", persistent())
                until(lambda: _depth(cluster, full) == 1, "a full queue")
            _refused_commit(channel)
            assert _depth(cluster, out) == 3, "of a refused transaction nothing is there"
    _removed(cluster, queues)


def test_ack_and_publishes_of_one_shard_are_done_or_not(cluster):
    queues = source, out, full = _group(cluster, "ack")
    cluster.channel().basic_publish("", source, b"work", persistent())
    until(lambda: _depth(cluster, source) == 1, "the message")

    def take():
        channel = cluster.channel(2)
        channel.tx_select()
        method, _, body = channel.basic_get(source)
        assert body == b"work", body
        channel.basic_ack(method.delivery_tag)
        channel.basic_publish("", out, b"done", persistent())
        return channel, method

    channel, method = take()
    assert not method.redelivered
    for _ in range(2):
        channel.basic_publish("", full, b"x", persistent())
    _refused_commit(channel)
    until(lambda: _depth(cluster, source) == 1, "the delivery is back")
    assert (_depth(cluster, out), _depth(cluster, full)) == (0, 0)
    channel, method = take()
    assert method.redelivered
    channel.basic_publish("", full, b"x", persistent())
    channel.tx_commit()
    channel.close()
    assert [_depth(cluster, queue) for queue in queues] == [0, 1, 1]
    _removed(cluster, queues)


def test_consumer_goes_on_after_each_commit(cluster):
    queues = source, out, _ = _group(cluster, "worker")
    channel = cluster.channel()
    channel.confirm_delivery()
    for number in range(30):
        channel.basic_publish("", source, str(number).encode(), persistent())
    worker = cluster.channel(1)
    worker.tx_select()
    worker.basic_qos(prefetch_count=2)
    got = []

    def work(_, method, __, body):
        got.append(body)
        worker.basic_publish("", out, body, persistent())
        worker.basic_ack(method.delivery_tag)
        worker.tx_commit()

    worker.basic_consume(source, work)
    until(lambda: len(got) == 30, "all of them", worker.connection)
    worker.connection.close()
    assert _depth(cluster, source) == 0
    bodies = [channel.basic_get(out, auto_ack=True)[2] for _ in range(30)]
    assert bodies == got == [str(number).encode() for number in range(30)], bodies
    _removed(cluster, queues)


def test_unroutable_mandatory_message_comes_back_at_commit_and_refuses_nothing(cluster):
    queues = _, out, _ = _group(cluster, "returned")
    connection = cluster.connect(1)
    channel = connection.channel()
    returned = []
    channel.add_on_return_callback(lambda _c, method, _p, body: returned.append((method.reply_code, body)))
    channel.tx_select()
    channel.basic_publish("", out, b"taken", persistent(), mandatory=True)
    channel.basic_publish("", cluster.name("nowhere"), b"back", persistent(), mandatory=True)
    channel.basic_publish("", cluster.name("nowhere"), b"lost", persistent())
    connection.process_data_events(time_limit=0.1)
    assert returned == []
    channel.tx_commit()
    until(lambda: returned, "the return", connection)
    assert returned == [(312, b"back")], returned
    assert _depth(cluster, out) == 1
    _removed(cluster, queues)


def _filled(cluster, queue, count):
    channel = cluster.channel()
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, str(number).encode(), persistent())


def test_several_settles_and_publishes_of_one_shard_are_done_or_not(cluster):
    queues = source, out, full = _group(cluster, "several")
    _filled(cluster, source, 4)
    for is_refused in (True, False):
        channel = cluster.channel(2)
        channel.tx_select()
        got = [channel.basic_get(source)[0] for _ in range(4)]
        assert [it.redelivered for it in got] == [not is_refused] * 4
        tags = [it.delivery_tag for it in got]
        channel.basic_ack(tags[1], multiple=True)
        channel.basic_reject(tags[2], requeue=True)
        channel.basic_nack(tags[3], requeue=False)
        channel.basic_publish("", out, b"done", persistent())
        for _ in range(2 if is_refused else 1):
            channel.basic_publish("", full, b"x", persistent())
        if is_refused:
            _refused_commit(channel)
            until(lambda: _depth(cluster, source) == 4, "the deliveries are back")
            assert (_depth(cluster, out), _depth(cluster, full)) == (0, 0)
        else:
            channel.tx_commit()
            # At once: the answer comes after all of it.
            assert [_depth(cluster, queue) for queue in queues] == [1, 1, 1]
    assert cluster.channel().basic_get(source, auto_ack=True)[2] == b"2"
    _removed(cluster, queues)


def test_settles_of_several_queues_of_one_shard_are_done_or_not(cluster):
    queues = source, out, full = _group(cluster, "queues")
    _filled(cluster, source, 2)
    _filled(cluster, out, 2)
    channel = cluster.channel()
    channel.tx_select()
    for queue in (source, out):
        channel.basic_get(queue)
    last = channel.basic_get(out)[0]
    channel.basic_ack(last.delivery_tag, multiple=True)
    channel.basic_publish("", full, b"x", persistent())
    channel.tx_commit()
    assert [_depth(cluster, queue) for queue in queues] == [1, 0, 1]
    # Without publishes, too; one of the queues is deleted meanwhile.
    _filled(cluster, out, 1)
    tags = [channel.basic_get(queue)[0].delivery_tag for queue in (source, out)]
    channel.basic_ack(tags[1], multiple=True)
    channel.tx_commit()
    channel.close()
    assert [_depth(cluster, queue) for queue in queues] == [0, 0, 1]
    _removed(cluster, queues)


def test_consumer_acks_several_and_goes_on_after_each_commit(cluster):
    queues = source, out, _ = _group(cluster, "batches")
    _filled(cluster, source, 40)
    worker = cluster.channel(1)
    worker.tx_select()
    worker.basic_qos(prefetch_count=4)
    got = []

    def work(_, method, __, body):
        got.append(body)
        if len(got) % 4 == 0:
            worker.basic_publish("", out, b",".join(got[-4:]), persistent())
            worker.basic_ack(method.delivery_tag, multiple=True)
            worker.tx_commit()

    worker.basic_consume(source, work)
    until(lambda: len(got) == 40, "all of them", worker.connection)
    worker.connection.close()
    assert _depth(cluster, source) == 0
    channel = cluster.channel()
    bodies = [channel.basic_get(out, auto_ack=True)[2] for _ in range(10)]
    assert b",".join(bodies).split(b",") == got == [str(number).encode() for number in range(40)], bodies
    _removed(cluster, queues)


def test_dead_letters_begin_their_way_with_the_publishes_or_are_held(cluster):
    queues = _, out, full = _group(cluster, "dying")
    source, dead = cluster.name("dying.dlx"), _queue(cluster, "dead")
    group = {"x-placement-group": cluster.name("dying")}
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, **group}
    cluster.channel().queue_declare(source, durable=True, arguments=arguments)
    _filled(cluster, source, 3)
    for is_refused in (True, False):
        channel = cluster.channel()
        channel.tx_select()
        tags = [channel.basic_get(source)[0].delivery_tag for _ in range(3)]
        channel.basic_ack(tags[0])
        for tag in tags[1:]:
            channel.basic_reject(tag, requeue=False)
        channel.basic_publish("", out, b"done", persistent())
        for _ in range(2 if is_refused else 1):
            channel.basic_publish("", full, b"x", persistent())
        if is_refused:
            _refused_commit(channel)
            until(lambda: _depth(cluster, source) == 3, "the deliveries are back")
            assert (_depth(cluster, out), _depth(cluster, dead)) == (0, 0)
        else:
            channel.tx_commit()
            # At once: the answer comes when they have arrived.
            assert [_depth(cluster, it) for it in (source, out, dead)] == [0, 1, 2]
    _removed(cluster, (*queues, source, dead))
