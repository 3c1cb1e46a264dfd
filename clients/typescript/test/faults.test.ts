/** A server that is frozen, cut off, killed, or not there: no action runs, and nobody waits for ever. */

import assert from "node:assert/strict";
import net from "node:net";
import { after, test, type TestContext } from "node:test";

import { StepUpError, UnavailableError, type StepUpClient } from "stepup-authz";

import { BOB, Fake, OSQUERY, hang, tcpServer } from "./helpers/fake.js";

const TIMEOUT = 500;
const ITEMS = [{ operation: OSQUERY, target: "host-7", label: "Mail server" }];
const stops: (() => void)[] = [];
after(() => stops.forEach((stop) => stop()));

async function frozen(): Promise<Fake> {
  const fake = await Fake.start({ checkStepUp: hang, batchCheckStepUp: hang, verifyOtp: hang, createChallenge: hang });
  stops.push(() => fake.stop());
  return fake;
}

/** Demands that each way to run an action ends with an error of the tree, and soon. */
async function demandNothingRuns(stepup: StepUpClient, t: TestContext): Promise<void> {
  const run = t.mock.fn();
  const calls = {
    check: stepup.check(BOB, OSQUERY).then(run),
    require: stepup.require(BOB, OSQUERY).then(run),
    action: stepup.action(BOB, OSQUERY).run(run),
    many: stepup.checkMany(BOB, [{ operation: OSQUERY }]).then(run),
    verify: stepup.verify(BOB, "123456").then(run),
    approve: stepup.approve(BOB, ITEMS, "Incident 7").then(run),
  };
  const begunAt = performance.now();
  await Promise.all(
    Object.entries(calls).map(([name, call]) =>
      assert.rejects(call, (error) => {
        assert.ok(error instanceof UnavailableError, `${name}: ${error}`);
        assert.equal(error.retryable, true);
        return true;
      }),
    ),
  );
  assert.ok(performance.now() - begunAt < 10 * TIMEOUT);
  assert.equal(run.mock.callCount(), 0);
}

test("a server that never answers lets no action run", async (t) => {
  const fake = await frozen();
  await demandNothingRuns(fake.client({ timeout: TIMEOUT }), t);
});

test("a machine that accepts connections and is silent lets no action run", async (t) => {
  const server = await tcpServer(() => {});
  const fake = await frozen();
  stops.push(server.stop);
  await demandNothingRuns(fake.clientOf(server.target, { timeout: TIMEOUT }), t);
});

test("a connection that is cut during the calls lets no action run", async (t) => {
  const fake = await frozen();
  const proxy = await tcpServer((socket) => {
    const upstream = net.connect(fake.port, "127.0.0.1");
    upstream.on("error", () => socket.destroy());
    socket.pipe(upstream).pipe(socket);
    socket.on("close", () => upstream.destroy());
    setTimeout(() => socket.resetAndDestroy(), 100);
  });
  stops.push(proxy.stop);
  await demandNothingRuns(fake.clientOf(proxy.target, { timeout: TIMEOUT }), t);
});

test("a server that is killed during the calls lets no action run", async (t) => {
  const fake = await frozen();
  const stepup = fake.client({ timeout: TIMEOUT });
  setTimeout(() => fake.kill(), 100);
  await demandNothingRuns(stepup, t);
});

test("a server that is not there lets no action run, also for a client that waits for it", async (t) => {
  const fake = await frozen();
  fake.kill();
  await demandNothingRuns(fake.client({ timeout: TIMEOUT }), t);
  await demandNothingRuns(fake.client({ timeout: TIMEOUT, waitForReady: true }), t);
});

test("a server that speaks another protocol lets no action run", async () => {
  const server = await tcpServer((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
  const fake = await frozen();
  stops.push(server.stop);
  await assert.rejects(fake.clientOf(server.target, { timeout: TIMEOUT }).check(BOB, OSQUERY), StepUpError);
});

test("a closed client makes no call", async () => {
  const fake = await frozen();
  const stepup = fake.client();
  stepup.close();
  await assert.rejects(stepup.check(BOB, OSQUERY), UnavailableError);
});

test("a program that aborts a call gets no answer", async () => {
  const fake = await frozen();
  const abort = new AbortController();
  const call = fake.client().check(BOB, OSQUERY, { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(call, UnavailableError);
  await assert.rejects(fake.client().check(BOB, OSQUERY, { signal: AbortSignal.abort() }), UnavailableError);
});

for (const timeout of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
  test(`no call waits for ${timeout} milliseconds`, async () => {
    const fake = await frozen();
    await assert.rejects(fake.client().check(BOB, OSQUERY, { timeout }), RangeError);
  });
}
