// The programs: the tutorials' patterns, workers that share a queue, one of them lost in the middle.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import amqp from 'amqplib';

const WAIT_MS = 15_000;

export function connect(ports, node) {
  return amqp.connect(`amqp://guest:guest@127.0.0.1:${ports[node % ports.length]}`);
}

function name(what) {
  return `amqplib.${what}.${randomUUID().slice(0, 12)}`;
}

// Messages only: a consumer whose queue is deleted is told so by null.
export function each(handle) {
  return (message) => message && handle(message);
}

export async function until(condition, what) {
  const end = Date.now() + WAIT_MS;
  while (!condition()) {
    assert.ok(Date.now() < end, `not within ${WAIT_MS} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

async function with_channels(ports, nodes, program) {
  const connections = await Promise.all(nodes.map((node) => connect(ports, node)));
  const channels = await Promise.all(connections.map((connection) => connection.createConfirmChannel()));
  try {
    await program(...channels);
  } finally {
    await Promise.all(connections.map((connection) => connection.close().catch(() => {})));
  }
}

async function hello_world(ports) {
  await with_channels(ports, [0, 1], async (sending, receiving) => {
    const queue = name('hello');
    await sending.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    const got = [];
    await receiving.consume(queue, each((message) => got.push(message.content.toString())), { noAck: true });
    sending.sendToQueue(queue, Buffer.from('Hello World!'));
    await until(() => got.length === 1, 'the message');
    assert.deepEqual(got, ['Hello World!']);
    await sending.deleteQueue(queue);
  });
}

async function work_queue_is_shared_by_two_workers_with_prefetch_1(ports) {
  await with_channels(ports, [0, 1, 2], async (sending, one, two) => {
    const queue = name('tasks');
    await sending.assertQueue(queue, { durable: true });
    const got = [[], []];
    for (const [at, worker] of [one, two].entries()) {
      await worker.prefetch(1);
      await worker.consume(
        queue,
        each((message) => {
          got[at].push(message);
          setTimeout(() => worker.ack(message), 5);
        }),
      );
    }
    for (let number = 0; number < 40; number += 1) {
      sending.sendToQueue(queue, Buffer.from(`${number}`), { persistent: true });
    }
    await sending.waitForConfirms();
    await until(() => got[0].length + got[1].length === 40, 'all tasks');
    assert.ok(got[0].length > 5 && got[1].length > 5, `${got[0].length} and ${got[1].length}`);
    assert.ok(got.flat().every((message) => !message.fields.redelivered));
    await sending.deleteQueue(queue);
  });
}

async function tasks_of_a_worker_that_dies_go_to_another(ports) {
  await with_channels(ports, [0, 1], async (sending, living) => {
    const queue = name('dying');
    await sending.assertQueue(queue, { durable: true });
    for (let number = 0; number < 10; number += 1) {
      sending.sendToQueue(queue, Buffer.from(`${number}`), { persistent: true });
    }
    await sending.waitForConfirms();
    const dying = await connect(ports, 2);
    dying.on('error', () => {});
    const worker = await dying.createChannel();
    await worker.prefetch(4);
    const held = [];
    await worker.consume(queue, each((message) => held.push(message.content.toString())));
    await until(() => held.length === 4, 'four tasks');
    dying.connection.stream.destroy();
    const got = new Map();
    await living.consume(
      queue,
      each((message) => {
        got.set(message.content.toString(), message.fields.redelivered);
        living.ack(message);
      }),
    );
    await until(() => got.size === 10, 'all tasks');
    for (const [body, redelivered] of got) {
      assert.equal(redelivered, held.includes(body), body);
    }
    await sending.deleteQueue(queue);
  });
}

async function publish_subscribe(ports) {
  await with_channels(ports, [0, 1, 2], async (sending, one, two) => {
    const exchange = name('logs');
    await sending.assertExchange(exchange, 'fanout', { durable: false });
    const got = [[], []];
    for (const [at, receiving] of [one, two].entries()) {
      const { queue } = await receiving.assertQueue('', { exclusive: true });
      await receiving.bindQueue(queue, exchange, '');
      await receiving.consume(queue, each((message) => got[at].push(message.content.toString())), { noAck: true });
    }
    sending.publish(exchange, '', Buffer.from('info'));
    await until(() => got[0].length === 1 && got[1].length === 1, 'both copies');
    await sending.deleteExchange(exchange);
  });
}

async function routed(ports, kind, bindings, keys, expected) {
  await with_channels(ports, [0, 1], async (sending, receiving) => {
    const exchange = name(kind);
    await sending.assertExchange(exchange, kind, { durable: false });
    const { queue } = await receiving.assertQueue('', { exclusive: true });
    for (const key of bindings) {
      await receiving.bindQueue(queue, exchange, key);
    }
    const got = [];
    await receiving.consume(queue, each((message) => got.push(message.fields.routingKey)), { noAck: true });
    for (const key of keys) {
      sending.publish(exchange, key, Buffer.from(key));
    }
    await sending.waitForConfirms();
    await until(() => got.length >= expected.length, 'what matches');
    assert.deepEqual(got, expected);
    await sending.deleteExchange(exchange);
  });
}

const routing = (ports) => routed(ports, 'direct', ['error', 'warning'], ['info', 'error', 'debug', 'warning'], ['error', 'warning']);

async function asks(ports, address) {
  await with_channels(ports, [0, 1], async (asking, serving) => {
    const requests = name('rpc');
    await serving.assertQueue(requests, { durable: false });
    await serving.prefetch(1);
    await serving.consume(
      requests,
      each((message) => {
        const { replyTo, correlationId } = message.properties;
        serving.sendToQueue(replyTo, Buffer.from(`${Number(message.content) * 2}`), { correlationId });
        serving.ack(message);
      }),
    );
    const replies = await address(asking);
    const answers = new Map();
    await asking.consume(
      replies,
      each((message) => answers.set(message.properties.correlationId, Number(message.content))),
      { noAck: true },
    );
    for (let number = 0; number < 20; number += 1) {
      asking.sendToQueue(requests, Buffer.from(`${number}`), { replyTo: replies, correlationId: `${number}` });
    }
    await until(() => answers.size === 20, 'all answers');
    for (const [asked, answer] of answers) {
      assert.equal(answer, Number(asked) * 2);
    }
    await serving.deleteQueue(requests);
  });
}

const rpc = (ports) => asks(ports, async (channel) => (await channel.assertQueue('', { exclusive: true })).queue);
const rpc_by_direct_reply = (ports) => asks(ports, async () => 'amq.rabbitmq.reply-to');

async function publisher_confirms(ports) {
  await with_channels(ports, [1], async (channel) => {
    const queue = name('confirms');
    await channel.assertQueue(queue, { durable: true });
    await new Promise((done, refused) => {
      channel.sendToQueue(queue, Buffer.from('single'), { persistent: true }, (error) => (error ? refused(error) : done()));
    });
    let confirmed = 0;
    for (let number = 0; number < 500; number += 1) {
      channel.sendToQueue(queue, Buffer.from(`${number}`), { persistent: true }, (error) => {
        assert.ifError(error);
        confirmed += 1;
      });
    }
    await channel.waitForConfirms();
    assert.equal(confirmed, 500);
    assert.equal((await channel.checkQueue(queue)).messageCount, 501);
    await channel.deleteQueue(queue);
  });
}

async function unroutable_mandatory_message_returns_before_its_confirm(ports) {
  await with_channels(ports, [2], async (channel) => {
    const seen = [];
    channel.on('return', (message) => seen.push(message.content.toString()));
    await new Promise((done) => {
      channel.publish('', name('nowhere'), Buffer.from('back'), { mandatory: true }, () => {
        seen.push('confirmed');
        done();
      });
    });
    assert.deepEqual(seen, ['back', 'confirmed']);
  });
}

async function refused_channel_is_told_why_and_the_connection_lives_on(ports) {
  const connection = await connect(ports, 0);
  const channel = await connection.createChannel();
  const failed = once(channel, 'error');
  await assert.rejects(channel.checkQueue(name('missing')), /404/);
  const [error] = await failed;
  assert.equal(error.code, 404);
  const other = await connection.createChannel();
  const { queue } = await other.assertQueue('', { exclusive: true });
  await other.deleteQueue(queue);
  await connection.close();
}

export const programs = {
  hello_world,
  work_queue_is_shared_by_two_workers_with_prefetch_1,
  tasks_of_a_worker_that_dies_go_to_another,
  publish_subscribe,
  routing,
  rpc,
  rpc_by_direct_reply,
  publisher_confirms,
  unroutable_mandatory_message_returns_before_its_confirm,
  refused_channel_is_told_why_and_the_connection_lives_on,
};
