"""What a connection hears of its node's end, and what it leaves behind. Not among the tests that run.py finds: somebody must end the node."""

import pika

from cluster import WAIT_S, connection_refused, persistent, until


def _wait(connection):
    """Until the connection ends, which is what is waited for."""
    for _ in range(4 * WAIT_S):
        connection.process_data_events(time_limit=0.25)


def connection_is_told(cluster):
    """A node that stops closes its connections with 320, whatever their channels do."""
    connection = cluster.connect()
    channel = connection.channel()
    queue = cluster.name("stopped")
    channel.queue_declare(queue, durable=True)
    channel.basic_consume(queue, lambda *_: None)
    channel.basic_publish("", queue, b"held", persistent())
    idle = cluster.connect()
    print("READY", flush=True)
    for each in (connection, idle):
        text = connection_refused(320, lambda each=each: _wait(each))
        assert text.startswith("CONNECTION_FORCED"), text
    # Its node has gone; on the others what it held is there.
    rest = cluster.channel(1)
    until(lambda: rest.queue_declare(queue, passive=True).method.message_count == 1, "the message is back")
    rest.queue_delete(queue)


def exclusive_queue_is_left(cluster, queue):
    """Its node is killed: nobody is there to delete the queue."""
    connection = cluster.connect()
    channel = connection.channel()
    channel.queue_declare(queue, exclusive=True)
    print("READY", flush=True)
    try:
        _wait(connection)
    except pika.exceptions.AMQPError as error:
        print(f"{error!r}", flush=True)
        return
    raise AssertionError("the node is there still")
