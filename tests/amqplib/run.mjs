// Unmodified amqplib programs against running nodes: what the AMQP tutorials do.
//
//     node run.mjs --port 5672[,5673,5674] [--failover]
//
// With several ports, publishers and consumers connect to different nodes. With --failover one program runs instead that is to outlive
// the loss of a node: it says READY when it is under way, and judges what it saw at the end. The last line says how many passed.
import { failover } from './failover.mjs';
import { programs } from './programs.mjs';

function option(name) {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
}

const ports = (option('--port') ?? '5672').split(',').map(Number);
let passed = 0;
let failed = 0;

async function run(name, program) {
  const began = Date.now();
  try {
    await program(ports);
    passed += 1;
    console.log(`ok     ${name} (${((Date.now() - began) / 1000).toFixed(2)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}`);
    console.log(error);
  }
}

if (process.argv.includes('--failover')) {
  await run('failover', failover);
} else {
  for (const [name, program] of Object.entries(programs)) {
    await run(name, program);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
