"""Dead letters as RabbitMQ's programs use them: reasons, `x-death`, routing keys, circles. The queues lie in different shards."""

import datetime

import pika

from cluster import persistent, until

QUORUM = {"x-queue-type": "quorum"}


class Dead:
    """A queue whose dead letters go through a fanout exchange to several queues, so to other shards, too."""

    def __init__(self, cluster, copies=1, key=None, exchange_type="fanout", **arguments):
        self.cluster, self.channel = cluster, cluster.channel()
        self.exchange = cluster.name("dlx")
        self.channel.exchange_declare(self.exchange, exchange_type, durable=True)
        self.graves = [cluster.name("grave") for _ in range(copies)]
        for grave in self.graves:
            self.channel.queue_declare(grave, durable=True, arguments=QUORUM)
            self.channel.queue_bind(grave, self.exchange, routing_key=key or "")
        self.queue = cluster.name("source")
        arguments = {"x-dead-letter-exchange": self.exchange, **QUORUM, **arguments}
        if key is not None:
            arguments["x-dead-letter-routing-key"] = key
        self.channel.queue_declare(self.queue, durable=True, arguments=arguments)
        self.channel.confirm_delivery()

    def publish(self, *bodies, exchange="", key=None, **properties):
        for body in bodies:
            self.channel.basic_publish(exchange, key or self.queue, body, persistent(**properties))

    def take(self, queue, node=1):
        """The next message of a queue, acked: (method, properties, body)."""
        channel, got = self.cluster.channel(node), []

        def there():
            found = channel.basic_get(queue, auto_ack=True)
            if found[0] is not None:
                got.append(found)
            return bool(got)

        until(there, f"a message in {queue}")
        channel.connection.close()
        return got[0]

    def reject(self, times=1, requeue=False, node=2):
        """Rejects the next deliveries of the source."""
        channel = self.cluster.channel(node)
        channel.basic_qos(prefetch_count=1)
        taken = 0
        for method, _, _ in channel.consume(self.queue, inactivity_timeout=0.05):
            if method is not None:
                channel.basic_reject(method.delivery_tag, requeue=requeue)
                taken += 1
            if taken == times:
                break
        channel.cancel()
        channel.close()

    def count(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.message_count


def check(properties, queue, reason, exchange="", keys=None, count=1):
    """The newest death, in RabbitMQ's form."""
    headers = properties.headers
    death = headers["x-death"][0]
    told = (death["queue"], death["reason"], death["exchange"], death["count"])
    assert told == (queue, reason, exchange, count), death
    assert death["routing-keys"] == (keys or [queue]), death
    assert isinstance(death["time"], datetime.datetime), death
    assert headers["x-last-death-queue"] == queue, headers
    assert headers["x-last-death-reason"] == reason, headers
    assert headers["x-last-death-exchange"] == exchange, headers
    return death


def test_dead_letter_rejected_reaches_every_queue_of_the_exchange_with_its_story(cluster):
    dead = Dead(cluster, copies=6)
    dead.publish(b"bad", content_type="text/plain", headers={"mine": 7})
    dead.reject()
    for grave in dead.graves:
        method, properties, body = dead.take(grave)
        assert (body, method.exchange, method.routing_key) == (b"bad", dead.exchange, dead.queue)
        assert not method.redelivered
        assert properties.content_type == "text/plain" and properties.headers["mine"] == 7
        check(properties, dead.queue, "rejected")
        assert properties.headers["x-first-death-queue"] == dead.queue
        assert properties.headers["x-first-death-reason"] == "rejected"
        assert properties.headers["x-first-death-exchange"] == ""
    assert dead.count(dead.queue) == 0


def test_dead_letter_of_nack_multiple_arrives_in_order(cluster):
    dead = Dead(cluster)
    bodies = [b"%d" % number for number in range(20)]
    dead.publish(*bodies)
    channel, tags = cluster.channel(2), []
    channel.basic_consume(dead.queue, lambda _c, method, _p, _b: tags.append(method.delivery_tag))
    until(lambda: len(tags) == 20, "all deliveries", channel.connection)
    channel.basic_nack(tags[-1], multiple=True, requeue=False)
    channel.close()
    assert [dead.take(dead.graves[0])[2] for _ in bodies] == bodies


def test_dead_letter_expired_by_the_queue_goes_under_its_new_key(cluster):
    dead = Dead(cluster, key="late", exchange_type="direct", **{"x-message-ttl": 100})
    dead.publish(b"old", headers={"CC": ["also"], "BCC": ["hidden"]})
    method, properties, _ = dead.take(dead.graves[0])
    assert (method.exchange, method.routing_key) == (dead.exchange, "late")
    death = check(properties, dead.queue, "expired", keys=[dead.queue, "also"])
    assert "original-expiration" not in death
    assert "CC" not in properties.headers and "BCC" not in properties.headers


def test_dead_letter_expired_by_itself_keeps_its_expiration_in_x_death_only(cluster):
    dead = Dead(cluster)
    dead.publish(b"long", expiration="600000")
    dead.publish(b"short", expiration="100")
    _, properties, body = dead.take(dead.graves[0])
    assert (body, properties.expiration) == (b"short", None)
    assert check(properties, dead.queue, "expired")["original-expiration"] == "100"
    assert dead.count(dead.queue) == 1


def test_dead_letter_of_a_full_queue_is_its_oldest(cluster):
    dead = Dead(cluster, copies=3, **{"x-max-length": 2})
    dead.publish(b"1", b"2", b"3", b"4", b"5")
    for grave in dead.graves:
        bodies = []
        for _ in range(3):
            _, properties, body = dead.take(grave)
            check(properties, dead.queue, "maxlen")
            bodies.append(body)
        assert bodies == [b"1", b"2", b"3"], bodies
    assert [dead.take(dead.queue)[2] for _ in range(2)] == [b"4", b"5"]


def test_dead_letter_of_a_full_queue_in_bytes_is_its_oldest(cluster):
    dead = Dead(cluster, **{"x-max-length-bytes": 10})
    dead.publish(b"aaaa", b"bbbb", b"cccc")
    _, properties, body = dead.take(dead.graves[0])
    check(properties, dead.queue, "maxlen")
    assert body == b"aaaa" and dead.count(dead.queue) == 2


def test_dead_letter_after_too_many_deliveries(cluster):
    dead = Dead(cluster, **{"x-delivery-limit": 2})
    dead.publish(b"poison")
    dead.reject(times=3, requeue=True)
    _, properties, body = dead.take(dead.graves[0])
    assert body == b"poison"
    check(properties, dead.queue, "delivery_limit")
    assert dead.count(dead.queue) == 0


def test_dead_letter_without_a_queue_is_dropped_and_the_consumer_goes_on(cluster):
    dead = Dead(cluster, copies=0)
    dead.publish(b"nowhere", b"next")
    dead.reject(times=2)
    until(lambda: dead.count(dead.queue) == 0, "an empty queue")


def test_dead_letter_through_a_missing_exchange_is_dropped(cluster):
    channel, queue = cluster.channel(), cluster.name("source")
    arguments = {"x-dead-letter-exchange": cluster.name("missing"), "x-message-ttl": 50}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.basic_publish("", queue, b"gone")
    until(lambda: channel.queue_declare(queue, passive=True).method.message_count == 0, "an empty queue")


def test_dead_letter_retried_through_a_waiting_queue_is_counted(cluster):
    """The classic retry: work is rejected, waits in a queue with a TTL, and comes back."""
    channel = cluster.channel()
    work, wait = cluster.name("work"), cluster.name("wait")
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": 50}
    channel.queue_declare(wait, durable=True, arguments=back)
    away = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait}
    channel.queue_declare(work, durable=True, arguments=away)
    channel.basic_publish("", work, b"again")
    consumer, seen = cluster.channel(1), []

    def take(_, method, properties, __):
        deaths = (properties.headers or {}).get("x-death", [])
        seen.append([(it["queue"], it["reason"], it["count"]) for it in deaths])
        if len(seen) < 4:
            consumer.basic_reject(method.delivery_tag, requeue=False)
        else:
            consumer.basic_ack(method.delivery_tag)

    consumer.basic_consume(work, take)
    until(lambda: len(seen) == 4, "three retries", consumer.connection)
    assert seen == [[]] + [[(wait, "expired", n), (work, "rejected", n)] for n in (1, 2, 3)], seen


def test_dead_letter_in_a_circle_without_a_consumer_stops(cluster):
    """first -> second -> first, by expiry alone; each round would leave a copy in `trace`."""
    channel = cluster.channel()
    first, second, trace = (cluster.name(it) for it in ("first", "second", "trace"))
    exchange = cluster.name("dlx")
    channel.exchange_declare(exchange, "fanout", durable=True)
    onward = {"x-dead-letter-exchange": exchange, "x-message-ttl": 20}
    channel.queue_declare(first, durable=True, arguments=onward)
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": first, "x-message-ttl": 20}
    channel.queue_declare(second, durable=True, arguments=back)
    channel.queue_declare(trace, durable=True)
    for queue in (second, trace):
        channel.queue_bind(queue, exchange)
    bodies = [b"%d" % number for number in range(8)]
    for body in bodies:
        channel.basic_publish("", first, body, persistent())
        seen = []
        until(lambda: seen.append(channel.basic_get(trace, auto_ack=True)[2]) or seen[-1] is not None, "its copy")
        assert seen[-1] == body, f"{seen[-1]} went round before {body}"
    empty = lambda: all(channel.queue_declare(it, passive=True).method.message_count == 0 for it in (first, second))
    until(empty, "both queues empty")
    assert channel.basic_get(trace)[0] is None


def test_dead_letter_x_death_of_a_publisher_is_no_story(cluster):
    dead = Dead(cluster, **{"x-message-ttl": 50})
    forged = [{"queue": dead.graves[0], "reason": "expired", "count": 9, "exchange": "", "routing-keys": ["x"]}]
    dead.publish(b"forged", headers={"x-death": forged})
    _, properties, body = dead.take(dead.graves[0])
    assert body == b"forged" and len(properties.headers["x-death"]) == 1
    check(properties, dead.queue, "expired")


def test_dead_letter_of_a_publish_that_a_full_queue_refuses_is_there_when_the_publisher_hears_of_it(cluster):
    dead = Dead(cluster, copies=2, **{"x-max-length": 2, "x-overflow": "reject-publish-dlx"})
    refused = []
    for body in (b"1", b"2", b"3", b"4"):
        try:
            dead.publish(body, expiration="60000")
        except pika.exceptions.NackError:
            refused.append(body)
            assert dead.count(dead.graves[0]) == len(refused)
    assert refused == [b"3", b"4"], refused
    assert dead.count(dead.queue) == 2
    for grave in dead.graves:
        for body in refused:
            _, properties, got = dead.take(grave)
            assert got == body, got
            death = check(properties, dead.queue, "maxlen")
            assert death["original-expiration"] == "60000", death
            assert properties.expiration is None, properties
    # What was taken in stays, in order; there is room again when one is gone.
    assert dead.take(dead.queue)[2] == b"1"
    dead.publish(b"5")
    assert [dead.take(dead.queue)[2] for _ in range(2)] == [b"2", b"5"]
    assert dead.count(dead.graves[0]) == 0


def test_dead_letter_queue_auto_is_made_with_its_queue_and_stays(cluster):
    channel, queue = cluster.channel(), cluster.name("orders")
    arguments = {"x-dead-letter-queue": "auto", **QUORUM}
    for _ in range(2):
        channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"bad", persistent())
    method, _, _ = next(channel.consume(queue))
    channel.basic_reject(method.delivery_tag, requeue=False)
    channel.cancel()
    dead = f"{queue}.dlq"
    until(lambda: channel.queue_declare(dead, passive=True).method.message_count == 1, "the dead letter")
    channel.queue_delete(queue)
    found, properties, body = cluster.channel(2).basic_get(dead, auto_ack=True)
    assert found is not None and body == b"bad"
    check(properties, queue, "rejected", keys=[queue])


def test_dead_letter_queue_auto_beside_a_queue_that_will_not_do_is_refused(cluster):
    channel, queue = cluster.channel(), cluster.name("orders")
    channel.queue_declare(f"{queue}.dlq", durable=False, arguments={"x-queue-type": "classic"})
    try:
        channel.queue_declare(queue, durable=True, arguments={"x-dead-letter-queue": "auto"})
        raise AssertionError("it was declared")
    except pika.exceptions.ChannelClosedByBroker as refused:
        assert refused.reply_code == 406 and f"{queue}.dlq" in refused.reply_text, refused
