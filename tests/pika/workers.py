"""Work queues: several workers with prefetch 1, redelivery when one dies, cancelling, negative acks."""

import pika

from cluster import persistent, until


class Worker:
    """Acks what it gets, unless told to hold it."""

    def __init__(self, cluster, node, queue, prefetch=1, hold=False):
        self.connection = cluster.connect(node)
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=prefetch)
        self.hold = hold
        self.got = []
        self.tag = self.channel.basic_consume(queue, self.work)

    def work(self, channel, method, properties, body):
        self.got.append((method, properties, body))
        if not self.hold:
            channel.basic_ack(method.delivery_tag)

    def step(self):
        self.connection.process_data_events(time_limit=0.01)


def bodies(worker):
    return [body for _, _, body in worker.got]


def fill(cluster, queue, count):
    channel = cluster.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, str(number), persistent())
    return channel


def test_two_workers_share_a_queue(cluster):
    queue = cluster.name("work")
    workers = []
    channel = cluster.channel()
    channel.queue_declare(queue, durable=True)
    workers = [Worker(cluster, node, queue) for node in (1, 2)]
    assert channel.queue_declare(queue, passive=True).method.consumer_count == 2
    channel.confirm_delivery()
    for number in range(60):
        channel.basic_publish("", queue, str(number), persistent())

    def done():
        for worker in workers:
            worker.step()
        return sum(len(worker.got) for worker in workers) >= 60

    until(done, "all messages at the workers")
    everything = bodies(workers[0]) + bodies(workers[1])
    assert sorted(everything, key=int) == [str(number).encode() for number in range(60)]
    assert all(len(worker.got) > 5 for worker in workers), [len(worker.got) for worker in workers]
    for worker in workers:
        assert bodies(worker) == sorted(bodies(worker), key=int), "order within a worker"
        assert not any(method.redelivered for method, _, _ in worker.got)
    channel.queue_delete(queue)


def test_prefetch_holds_the_next_message_back(cluster):
    queue = cluster.name("prefetch")
    channel = fill(cluster, queue, 10)
    worker = Worker(cluster, 1, queue, prefetch=3, hold=True)
    until(lambda: len(worker.got) == 3, "three messages", worker.connection)
    for _ in range(20):
        worker.step()
    assert bodies(worker) == [b"0", b"1", b"2"]
    worker.channel.basic_ack(worker.got[1][0].delivery_tag, multiple=True)
    until(lambda: len(worker.got) == 5, "two more", worker.connection)
    for _ in range(20):
        worker.step()
    assert len(worker.got) == 5
    channel.queue_delete(queue)


def test_what_a_dead_worker_held_is_redelivered(cluster):
    queue = cluster.name("dead")
    channel = fill(cluster, queue, 3)
    first = Worker(cluster, 1, queue, prefetch=2, hold=True)
    until(lambda: len(first.got) == 2, "two messages", first.connection)
    first.connection.close()
    # The protocol says nothing of when they are back; another consumer may have the third before.
    ready = lambda: channel.queue_declare(queue, passive=True).method.message_count
    until(lambda: ready() == 3, "all three ready", channel.connection)
    second = Worker(cluster, 2, queue, prefetch=1)
    until(lambda: len(second.got) == 3, "all at the second worker", second.connection)
    assert bodies(second) == [b"0", b"1", b"2"], "returned to their place"
    assert [method.redelivered for method, _, _ in second.got] == [True, True, False]
    headers = second.got[0][1].headers
    assert headers["x-delivery-count"] == 1 and headers["x-acquired-count"] == 1, headers
    channel.queue_delete(queue)


def test_nack_with_requeue_comes_again_and_reject_does_not(cluster):
    queue = cluster.name("nack")
    channel = fill(cluster, queue, 2)
    method, _, body = channel.basic_get(queue)
    assert body == b"0" and not method.redelivered
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, properties, body = channel.basic_get(queue)
    assert body == b"0" and method.redelivered, "back at its place"
    assert properties.headers["x-delivery-count"] == 0, properties.headers
    channel.basic_reject(method.delivery_tag, requeue=False)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert body == b"1"
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_recover_gives_back_what_is_unacked(cluster):
    queue = cluster.name("recover")
    channel = fill(cluster, queue, 2)
    assert channel.basic_get(queue)[2] == b"0"
    assert channel.basic_get(queue)[2] == b"1"
    channel.basic_recover(requeue=True)
    assert channel.queue_declare(queue, passive=True).method.message_count == 2
    channel.queue_delete(queue)


def test_cancelled_consumer_gets_no_more_and_may_still_ack(cluster):
    queue = cluster.name("cancel")
    channel = fill(cluster, queue, 5)
    worker = Worker(cluster, 1, queue, prefetch=2, hold=True)
    until(lambda: len(worker.got) == 2, "two messages", worker.connection)
    worker.channel.basic_cancel(worker.tag)
    worker.channel.basic_ack(worker.got[1][0].delivery_tag, multiple=True)
    for _ in range(20):
        worker.step()
    assert len(worker.got) == 2
    until(
        lambda: channel.queue_declare(queue, passive=True).method.consumer_count == 0,
        "no consumer left",
    )
    assert channel.queue_declare(queue, passive=True).method.message_count == 3
    channel.queue_delete(queue)


def test_consumer_is_told_when_its_queue_is_deleted(cluster):
    queue = cluster.name("deleted")
    channel = fill(cluster, queue, 0)
    connection = cluster.connect(1)
    consumer = connection.channel()
    cancelled = []
    consumer.add_on_cancel_callback(cancelled.append)
    consumer.basic_consume(queue, lambda *_: None)
    channel.queue_delete(queue)
    until(lambda: cancelled, "the cancel", connection)


def test_exclusive_consumer_keeps_others_out(cluster):
    queue = cluster.name("sole")
    channel = fill(cluster, queue, 0)
    channel.basic_consume(queue, lambda *_: None, exclusive=True)
    other = cluster.channel(1)
    try:
        other.basic_consume(queue, lambda *_: None)
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 403, error
    else:
        raise AssertionError("the second consumer was let in")
    channel.queue_delete(queue)


def test_auto_ack_consumer_empties_the_queue(cluster):
    queue = cluster.name("noack")
    channel = fill(cluster, queue, 500)
    connection = cluster.connect(2)
    reader = connection.channel()
    got = []
    reader.basic_consume(queue, lambda _c, _m, _p, body: got.append(body), auto_ack=True)
    until(lambda: len(got) == 500, "all messages", connection)
    assert got == [str(number).encode() for number in range(500)]
    connection.close()
    until(
        lambda: channel.queue_declare(queue, passive=True).method.message_count == 0,
        "an empty queue",
    )
    channel.queue_delete(queue)
