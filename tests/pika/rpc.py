"""RPC: requests to a queue, answers to the asker's own queue."""

import uuid

import pika

from cluster import until


def test_rpc_answers_reach_their_asker(cluster):
    requests = cluster.name("rpc")
    server = cluster.connect(1)
    serving = server.channel()
    serving.queue_declare(requests)
    serving.basic_qos(prefetch_count=1)

    def serve(channel, method, properties, body):
        answer = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, str(int(body) * 2), answer)
        channel.basic_ack(method.delivery_tag)

    serving.basic_consume(requests, serve)
    client = cluster.connect(0)
    asking = client.channel()
    replies = asking.queue_declare("", exclusive=True).method.queue
    answers = {}
    asking.basic_consume(
        replies, lambda _c, _m, properties, body: answers.update({properties.correlation_id: int(body)}), auto_ack=True
    )
    for number in range(20):
        asked = uuid.uuid4().hex
        asking.basic_publish("", requests, str(number), pika.BasicProperties(reply_to=replies, correlation_id=asked))

        def answered():
            server.process_data_events(time_limit=0.005)
            client.process_data_events(time_limit=0.005)
            return asked in answers

        until(answered, f"the answer to {number}")
        assert answers[asked] == number * 2
    serving.queue_delete(requests)
