"""basic.qos in a vhost whose setting `live_prefetch` is on: it changes consumers that are there, whoever they are."""

from cluster import persistent
from limits import settle_down


def test_limit_follows_qos_in_a_vhost_that_says_so(cluster):
    queue = cluster.name("live")
    channel = cluster.connect(1, vhost=cluster.live_vhost).channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(20):
        channel.basic_publish("", queue, str(number).encode(), persistent())
    channel.basic_qos(prefetch_count=2)
    got = []
    channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method.delivery_tag))
    settle_down(channel.connection, got, 2)
    assert len(got) == 2, got
    # Raised: the consumer gets more at once.
    channel.basic_qos(prefetch_count=5)
    settle_down(channel.connection, got, 5)
    assert len(got) == 5, got
    # Lowered: nothing is taken back, and nothing comes before less than so many are held.
    channel.basic_qos(prefetch_count=1)
    channel.basic_ack(got[3], multiple=True)
    settle_down(channel.connection, got, 5)
    assert len(got) == 5, got
    channel.basic_ack(got[4])
    settle_down(channel.connection, got, 6)
    assert len(got) == 6, got
    channel.queue_delete(queue)
