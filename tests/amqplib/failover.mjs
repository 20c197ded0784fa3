// One publisher and consumers on one node, while another node, which leads some of the queues, is lost: the connection lives on,
// everything is confirmed and delivered, and nothing comes twice without being flagged.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { connect, each, until } from './programs.mjs';

const QUEUES = 6;
const BEFORE = 200;
const MESSAGES = 2_000;
const WAIT_MS = 60_000;

export async function failover(ports) {
  const connection = await connect(ports, 0);
  const broken = [];
  connection.on('error', (error) => broken.push(error));
  connection.on('close', () => broken.push('closed'));
  const channel = await connection.createConfirmChannel();
  const run = randomUUID().slice(0, 12);
  const queues = Array.from({ length: QUEUES }, (_, number) => `amqplib.failover.${run}.${number}`);
  const seen = new Map();
  let doubled = 0;
  await channel.prefetch(10);
  for (const queue of queues) {
    await channel.assertQueue(queue, { durable: true });
    await channel.consume(
      queue,
      each((message) => {
        const body = message.content.toString();
        if (seen.has(body) && !message.fields.redelivered) {
          doubled += 1;
        }
        seen.set(body, true);
        channel.ack(message);
      }),
    );
  }
  let confirmed = 0;
  let refused = 0;
  for (let number = 0; number < MESSAGES; number += 1) {
    channel.sendToQueue(queues[number % QUEUES], Buffer.from(`${number}`), { persistent: true }, (error) => {
      confirmed += error ? 0 : 1;
      refused += error ? 1 : 0;
    });
    if (number === BEFORE) {
      await until(() => confirmed >= BEFORE / 2, 'the first confirms');
      console.log('READY');
    }
    await new Promise((done) => setTimeout(done, 2));
  }
  const end = Date.now() + WAIT_MS;
  while (seen.size < MESSAGES && Date.now() < end) {
    await new Promise((done) => setTimeout(done, 50));
  }
  await channel.waitForConfirms().catch(() => {});
  console.log(`confirmed ${confirmed}, refused ${refused}, seen ${seen.size}, doubled ${doubled}`);
  assert.deepEqual(broken, []);
  assert.equal(refused, 0);
  assert.equal(confirmed, MESSAGES);
  assert.equal(seen.size, MESSAGES);
  assert.equal(doubled, 0);
  for (const queue of queues) {
    await channel.deleteQueue(queue);
  }
  connection.removeAllListeners('close');
  await connection.close();
}
