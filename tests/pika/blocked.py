"""What a publisher hears while a node is short of something. Not one of the tests that run.py finds: it needs such a node."""

import time

TOLD_WITHIN_S = 1.0


def publisher_is_told(cluster, reason):
    connection = cluster.connect()
    told = []
    connection.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
    channel = connection.channel()
    queue = cluster.name("blocked")
    channel.queue_declare(queue, durable=True)
    # A connection that only consumes is not stopped.
    reader = cluster.channel()
    assert reader.basic_get(queue)[0] is None
    began = time.monotonic()
    channel.basic_publish("", queue, b"held back")
    while not told and time.monotonic() < began + TOLD_WITHIN_S:
        connection.process_data_events(time_limit=0.02)
    assert told == [reason], f"told {told} within {TOLD_WITHIN_S} s"
    assert reader.basic_get(queue)[0] is None
    reader.queue_delete(queue)
