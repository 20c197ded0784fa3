"""The nodes under test: connections to them, names of one test's own, waiting for a condition."""

import contextlib
import time
import uuid

import pika

WAIT_S = 15


class Cluster:
    def __init__(self, host, ports):
        self.host = host
        self.ports = ports
        self.connections = []
        self.live_vhost = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            with contextlib.suppress(pika.exceptions.AMQPError):
                if connection.is_open:
                    connection.close()

    def connect(self, node=0, user="guest", password="guest", vhost="/", heartbeat=30, client_properties=None):
        """A connection to a node; nodes beyond the last port begin again."""
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                host=self.host,
                port=self.ports[node % len(self.ports)],
                virtual_host=vhost,
                credentials=pika.PlainCredentials(user, password),
                heartbeat=heartbeat,
                socket_timeout=WAIT_S,
                blocked_connection_timeout=WAIT_S,
                client_properties=client_properties,
            )
        )
        self.connections.append(connection)
        return connection

    def channel(self, node=0):
        return self.connect(node).channel()

    @staticmethod
    def name(what):
        return f"pika.{what}.{uuid.uuid4().hex[:12]}"


def persistent(**more):
    return pika.BasicProperties(delivery_mode=2, **more)


def until(condition, what, connection=None):
    """Waits for a condition; lets the connection's callbacks run meanwhile."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT_S} s: {what}"
        if connection is None:
            time.sleep(0.02)
        else:
            connection.process_data_events(time_limit=0.02)


def refused(expected, action):
    """The action must close the channel with this code."""
    try:
        action()
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == expected, f"closed with {error.reply_code} {error.reply_text}, expected {expected}"
        return error.reply_text
    raise AssertionError(f"not refused; expected {expected}")


def connection_refused(expected, action):
    """The action must close the connection with this code."""
    try:
        action()
    except pika.exceptions.ConnectionClosedByBroker as error:
        assert error.reply_code == expected, f"closed with {error.reply_code} {error.reply_text}, expected {expected}"
        return error.reply_text
    raise AssertionError(f"connection not closed; expected {expected}")
