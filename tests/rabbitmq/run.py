"""RabbitMQ's shovel and federation plugins with Warren on the other side: nothing is lost, and nothing twice where the queue deduplicates.

Needs a RabbitMQ node with the plugins rabbitmq_shovel and rabbitmq_federation, its rabbitmqctl, and a Warren cluster; both let guest in. With
--kill and --start a Warren node dies and comes back while messages flow through it (its port first in --warren).

  tests/rabbitmq/run.sh --rabbit 5691 --ctl "sudo rabbitmqctl" --warren 5672,5673,5674 \\
      --kill "scripts/local-cluster.sh kill 1" --start "scripts/local-cluster.sh start 1"
"""

import argparse
import json
import shlex
import subprocess
import sys
import threading
import time

import pika

EACH = 3000
WITHIN = 60


class Stage:
    def __init__(self, options):
        self.rabbit = options.rabbit
        self.warren = [int(port) for port in options.warren.split(",")]
        self.ctl_command = shlex.split(options.ctl)
        self.kill, self.start = options.kill, options.start

    def ctl(self, *arguments):
        return subprocess.run([*self.ctl_command, "-q", *arguments], check=True, capture_output=True, text=True).stdout

    def rabbit_uri(self):
        return f"amqp://guest:guest@127.0.0.1:{self.rabbit}"

    def warren_uris(self):
        return [f"amqp://guest:guest@127.0.0.1:{port}" for port in self.warren]

    def open(self, port):
        """A channel; another Warren node if that one is away."""
        ports = [port] if port == self.rabbit else self.warren
        for candidate in ports:
            try:
                connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", candidate))
                return connection.channel()
            except pika.exceptions.AMQPConnectionError:
                continue
        raise AssertionError(f"nobody answers at {ports}")

    def shovel(self, name, **settings):
        settings = {"src-protocol": "amqp091", "dest-protocol": "amqp091", "reconnect-delay": 1, "src-prefetch-count": 100} | settings
        settings = {key.replace("_", "-"): value for key, value in settings.items()}
        self.ctl("set_parameter", "shovel", name, json.dumps(settings))

    def fault(self, after):
        """Kills a Warren node in a while, and starts it again."""

        def play():
            time.sleep(after)
            subprocess.run(shlex.split(self.kill), check=True, capture_output=True)
            time.sleep(3)
            subprocess.run(shlex.split(self.start), check=True, capture_output=True)

        if not self.kill:
            return None
        thread = threading.Thread(target=play)
        thread.start()
        return thread


def publish(channel, queue, count, exchange="", key=None, pause=0.0):
    channel.confirm_delivery()
    for number in range(count):
        properties = pika.BasicProperties(
            delivery_mode=2,
            message_id=f"{queue}-{number}",
            content_type="text/plain",
            headers={"number": number, "nested": {"list": [1, "a", True]}},
        )
        channel.basic_publish(exchange, key or queue, str(number), properties)
        time.sleep(pause)


def drain(stage, port, queue, count):
    """What arrives until all are there, and what is too much."""
    got, until, channel = [], time.monotonic() + WITHIN, stage.open(port)
    while len(set(got)) < count and time.monotonic() < until:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            time.sleep(0.1)
            continue
        assert properties.headers["number"] == int(body) and properties.content_type == "text/plain", properties
        assert properties.headers["nested"] == {"list": [1, "a", True]}, properties
        got.append(int(body))
        channel.basic_ack(method.delivery_tag)
    time.sleep(1)
    while (more := channel.basic_get(queue))[0] is not None:
        got.append(int(more[2]))
        channel.basic_ack(more[0].delivery_tag)
    missing = set(range(count)) - set(got)
    assert not missing, f"{len(missing)} of {count} are missing: {sorted(missing)[:5]}"
    first = list(dict.fromkeys(got))
    return len(got) - count, first == sorted(first)


def declare(channel, *queues, arguments=None):
    for queue in queues:
        channel.queue_delete(queue)
        channel.queue_declare(queue, durable=True, arguments=arguments)


def shovel_into_warren(stage):
    declare(stage.open(stage.rabbit), "into-warren")
    declare(stage.open(stage.warren[0]), "into-warren", arguments={"x-dedup-window": 600_000})
    target = {"dest_uri": stage.warren_uris(), "dest_queue": "into-warren"}
    stage.shovel("into-warren", src_uri=stage.rabbit_uri(), src_queue="into-warren", **target)
    fault = stage.fault(2)
    publish(stage.open(stage.rabbit), "into-warren", EACH, pause=0.002)
    twice, in_order = drain(stage, stage.warren[-1], "into-warren", EACH)
    stage.ctl("clear_parameter", "shovel", "into-warren")
    if fault:
        fault.join()
    assert twice == 0, f"{twice} are there twice in a queue that deduplicates"
    return f"{EACH} messages, each once, in order: {in_order}"


def shovel_out_of_warren(stage):
    declare(stage.open(stage.warren[0]), "out-of-warren")
    declare(stage.open(stage.rabbit), "out-of-warren")
    target = {"dest_uri": stage.rabbit_uri(), "dest_queue": "out-of-warren"}
    publish(stage.open(stage.warren[0]), "out-of-warren", EACH)
    fault = stage.fault(0.5)
    stage.shovel("out-of-warren", src_uri=stage.warren_uris(), src_queue="out-of-warren", **target)
    twice, in_order = drain(stage, stage.rabbit, "out-of-warren", EACH)
    stage.ctl("clear_parameter", "shovel", "out-of-warren")
    if fault:
        fault.join()
    return f"{EACH} messages, {twice} twice, in order: {in_order}"


def federate(stage):
    upstream = {"uri": stage.warren_uris(), "ack-mode": "on-confirm", "queue-type": "quorum", "reconnect-delay": 1}
    for port in (stage.rabbit, stage.warren[0]):
        channel = stage.open(port)
        channel.exchange_delete("federated.x")
        channel.exchange_declare("federated.x", "topic", durable=True)
        declare(channel, "federated.q")
    downstream = stage.open(stage.rabbit)
    declare(downstream, "federated.down")
    downstream.queue_bind("federated.down", "federated.x", "eu.#")
    stage.ctl("set_parameter", "federation-upstream", "warren", json.dumps(upstream))
    stage.ctl("set_policy", "--apply-to", "exchanges", "federated.x", r"^federated\.x$", '{"federation-upstream":"warren"}')
    stage.ctl("set_policy", "--apply-to", "queues", "federated.q", r"^federated\.q$", '{"federation-upstream":"warren"}')
    until = time.monotonic() + WITHIN
    while (status := json.loads(stage.ctl("federation_status", "--formatter", "json"))) and not all(it["status"] == "running" for it in status):
        assert time.monotonic() < until, status
        time.sleep(0.5)
    assert len(status) == 2, status
    publisher = stage.open(stage.warren[0])
    publish(publisher, "federated.x", EACH, exchange="federated.x", key="eu.1")
    publish(publisher, "elsewhere", 10, exchange="federated.x", key="us.1")
    publish(publisher, "federated.q", EACH)
    of_exchange = drain(stage, stage.rabbit, "federated.down", EACH)
    of_queue = drain_federated(stage)
    stage.ctl("clear_policy", "federated.x")
    stage.ctl("clear_policy", "federated.q")
    stage.ctl("clear_parameter", "federation-upstream", "warren")
    return f"{EACH} messages each; twice and in order: exchange {of_exchange}, queue {of_queue}"


def drain_federated(stage):
    """A federated queue takes from its upstream while it has consumers."""
    got, channel = [], stage.open(stage.rabbit)
    channel.basic_qos(prefetch_count=100)
    for method, _, body in channel.consume("federated.q", inactivity_timeout=10):
        if method is None:
            break
        got.append(int(body))
        channel.basic_ack(method.delivery_tag)
        if len(got) == EACH:
            break
    assert set(got) == set(range(EACH)), f"{EACH - len(set(got))} are missing"
    return len(got) - EACH, got == sorted(got)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rabbit", type=int, required=True, help="AMQP port of RabbitMQ")
    parser.add_argument("--ctl", default="rabbitmqctl", help="how its rabbitmqctl is called")
    parser.add_argument("--warren", default="5672,5673,5674", help="AMQP ports of the nodes")
    parser.add_argument("--kill", help="command that kills the first of them")
    parser.add_argument("--start", help="command that starts it again and waits until it is ready")
    parser.add_argument("--only", default="", help="only tests with this in their names")
    options = parser.parse_args()
    stage, failed = Stage(options), 0
    tests = [it for it in (shovel_into_warren, shovel_out_of_warren, federate) if options.only in it.__name__]
    for test in tests:
        try:
            print(f"{test.__name__}: ok, {test(stage)}", flush=True)
        except (AssertionError, subprocess.CalledProcessError, pika.exceptions.AMQPError) as error:
            failed += 1
            print(f"{test.__name__}: FAILED: {error!r} {getattr(error, 'stderr', '')}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
