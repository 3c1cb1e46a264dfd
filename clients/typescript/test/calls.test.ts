import assert from "node:assert/strict";
import { after, test } from "node:test";
import { inspect } from "node:util";

import { status } from "@grpc/grpc-js";
import { AnswerError, RequestError, StateError, StepUpClient, UnavailableError } from "stepup-authz";
import { Decision, DecisionReason, Outcome } from "stepup-authz/messages";

import { BOB, Fake, OSQUERY, decided, failure, hang, type Script } from "./helpers/fake.js";

const ALLOWED = decided({ decision: Decision.ALLOWED, reason: DecisionReason.ELEVATED, receipt: "r-1" });
const TIME = { seconds: 1_800_000_000n };
const VERIFIED = { outcome: Outcome.VERIFIED, elevation: { verifiedAt: TIME, expiresAt: TIME } };
const ITEMS = [{ operation: OSQUERY, target: "host-7", label: "Mail server" }];
const stops: (() => void)[] = [];
after(() => stops.forEach((stop) => stop()));

async function started(scripts: Record<string, Script>): Promise<Fake> {
  const fake = await Fake.start(scripts);
  stops.push(() => fake.stop());
  return fake;
}

/** A script that answers the first requests in turn, and then always as at the last time. */
function inTurn(...answers: (object | (() => unknown))[]): Script {
  let index = 0;
  return () => {
    const answer = answers[Math.min(index++, answers.length - 1)]!;
    return typeof answer === "function" ? answer() : answer;
  };
}

const thrown = (code: status, facts = {}) => () => {
  throw failure(code, facts);
};

test("a check is sent again on UNAVAILABLE, with the same request id", async () => {
  const fake = await started({ checkStepUp: inTurn(thrown(status.UNAVAILABLE), ALLOWED) });
  assert.equal((await fake.client().require(BOB, OSQUERY)).receipt, "r-1");
  const [first, second] = fake.requests;
  assert.equal(first.requestId, second.requestId);
});

test("a code whose answer was lost is sent again with the same request id", async () => {
  const lost = [hang, thrown(status.UNAVAILABLE), thrown(status.ABORTED, { reason: "REQUEST_UNDER_WAY", retrySeconds: 0.2 })];
  const fake = await started({ verifyOtp: inTurn(...lost, VERIFIED) });
  assert.equal((await fake.client({ timeout: 6000 }).verify(BOB, "123456")).kind, "verified");
  assert.equal(new Set(fake.requests.map(({ requestId }) => requestId)).size, 1);
  assert.equal(fake.requests.length, 4);
});

test("a code is not sent again after a refusal, and a new code has a new request id", async () => {
  const fake = await started({
    verifyOtp: inTurn(thrown(status.FAILED_PRECONDITION, { reason: "ENROLLMENT_STATE" }), VERIFIED),
  });
  const stepup = fake.client();
  await assert.rejects(stepup.verify(BOB, "123456"), StateError);
  await stepup.verify(BOB, "123456");
  assert.equal(new Set(fake.requests.map(({ requestId }) => requestId)).size, 2);
});

test("a change without a request id is never sent again", async () => {
  const fake = await started({ revokeElevations: thrown(status.UNAVAILABLE) });
  await assert.rejects(fake.client().signOut(BOB), UnavailableError);
  assert.equal(fake.requests.length, 1);
});

test("an error has its code, reason, field, delay, details and cause", async () => {
  const fake = await started({
    checkStepUp: inTurn(
      thrown(status.INVALID_ARGUMENT, { reason: "INVALID_FIELD", field: "actor.user_id" }),
      thrown(status.RESOURCE_EXHAUSTED, { reason: "CALLER_RATE_LIMITED", retrySeconds: 3 }),
      thrown(status.FAILED_PRECONDITION, { reason: "ELEVATION_REQUIRED", metadata: { next_step: "ENROLL" } }),
      thrown(status.INTERNAL, { reason: "INTERNAL", domain: "somebody.example" }),
    ),
  });
  const errors: any[] = [];
  for (let each = 0; each < 4; each++) {
    errors.push(await fake.client().check(BOB, OSQUERY).catch((error: unknown) => error));
  }
  const [field, rate, state, internal] = errors;
  assert.ok(field instanceof RequestError && rate instanceof UnavailableError);
  assert.ok(state instanceof StateError && internal instanceof AnswerError);
  assert.deepEqual([field.code, field.reason, field.field], ["INVALID_ARGUMENT", "INVALID_FIELD", "actor.user_id"]);
  assert.deepEqual([rate.retryable, rate.retryAfter], [true, 3000]);
  assert.deepEqual([state.retryable, state.details["next_step"]], [false, "ENROLL"]);
  assert.equal(internal.reason, ""); // another domain's reason is not ours
  assert.ok(errors.every((error) => error.cause?.code === status[error.code as keyof typeof status]));
});

test("metadata of a call is sent with it", async () => {
  const fake = await started({ checkStepUp: () => ALLOWED });
  await fake.client().check(BOB, OSQUERY, { metadata: { "stepup-portal-session": "p-1" } });
  assert.deepEqual(fake.metadata[0]?.get("stepup-portal-session"), ["p-1"]);
  const bad = fake.client().check(BOB, OSQUERY, { metadata: { "stepup-portal-session": "secr\u00e9t" } });
  await assert.rejects(bad, (error) => error instanceof RequestError && !/secr/.test(inspect(error)));
});

test("values that are no message are an error of the request", async () => {
  const fake = await started({ checkStepUp: () => ALLOWED });
  const stepup = fake.client();
  await assert.rejects(stepup.people.list({ actor: BOB, pageSize: 2 ** 40 }), RequestError);
  const userId = { id: 7 } as unknown as string; // as text it would be that of everybody
  await assert.rejects(stepup.check({ ...BOB, userId }, OSQUERY), /user_id is not a string/);
  await assert.rejects(stepup.check(BOB, OSQUERY, { target: 7 as unknown as string }), RequestError);
  assert.equal(fake.requests.length, 0);
});

for (const target of ["stepup:50051", "10.0.0.7:50051", "127.0.0.1.example:50051", "127.0.0.1:1,stepup:1", ""]) {
  test(`${JSON.stringify(target)} needs credentials, or insecure: true`, () => {
    assert.throws(() => new StepUpClient(target), /needs credentials/);
    new StepUpClient(target || "stepup:50051", { insecure: true }).close();
  });
}

for (const target of ["127.0.0.1:50051", "localhost:50051", "[::1]:50051", "dns:///localhost:1", "unix:/run/stepup"]) {
  test(`${target} is on this machine`, () => new StepUpClient(target).close());
}

test("the environment makes a client, and names the variable that is wrong", async () => {
  const fake = await started({ checkStepUp: () => ALLOWED });
  const target = { STEPUP_CLIENT_TARGET: `127.0.0.1:${fake.port}`, STEPUP_CLIENT_TIMEOUT: "1.5" };
  const stepup = StepUpClient.fromEnv(target);
  assert.equal((await stepup.check(BOB, OSQUERY)).kind, "allowed");
  stepup.close();
  const wrong = { STEPUP_CLIENT_TIMEOUT: "soon", STEPUP_CLIENT_INSECURE: "perhaps", STEPUP_CLIENT_TARGET: "" };
  for (const [name, value] of Object.entries(wrong)) {
    assert.throws(() => StepUpClient.fromEnv({ ...target, [name]: value }), new RegExp(name));
  }
});

test("a receipt is presented by the retry of an action that timed out, and only then", async () => {
  const fake = await started({ checkStepUp: () => ALLOWED });
  const action = fake.client().action(BOB, OSQUERY, { target: "host-7" });
  await assert.rejects(action.run(() => Promise.reject(new DOMException("late", "TimeoutError"))), { name: "TimeoutError" });
  assert.equal(action.receipt, "r-1");
  await assert.rejects(action.run(() => Promise.reject(new Error("no disk"))), /no disk/);
  assert.equal(action.receipt, "");
  assert.equal(await action.run(({ reason }) => reason), "ELEVATED");
  const sent = fake.requests.map(({ actor }) => actor.retryReceipt);
  assert.deepEqual(sent, ["", "r-1", ""]);
  assert.equal(new Set(fake.requests.map(({ requestId }) => requestId)).size, 3);
});

test("the program says what else is a time-out", async () => {
  const fake = await started({ checkStepUp: () => ALLOWED });
  const stepup = fake.client();
  const late = new Error("late");
  const action = stepup.action(BOB, OSQUERY, { timedOut: (error) => error === late });
  await assert.rejects(action.run(() => Promise.reject(late)));
  assert.equal(action.receipt, "r-1");
  const other = stepup.action(BOB, OSQUERY, { receipt: action.receipt });
  await other.run(() => other.keepReceipt());
  assert.deepEqual([fake.requests.at(-1).actor.retryReceipt, other.receipt], ["r-1", "r-1"]);
  assert.throws(() => other.keepReceipt(), /does not run/);
});

test("an action whose answer was lost asks again as the same request, and burns no receipt", async () => {
  const fake = await started({ checkStepUp: inTurn(hang, ALLOWED) });
  const action = fake.client().action(BOB, OSQUERY, { receipt: "r-0", timeout: 500 });
  await assert.rejects(action.run(() => assert.fail("it ran")), UnavailableError);
  await action.run(() => {});
  const [first, second] = fake.requests;
  assert.equal(first.requestId, second.requestId);
  assert.deepEqual([first.actor.retryReceipt, second.actor.retryReceipt], ["r-0", "r-0"]);
});

test("an action does not run twice at a time", async () => {
  const fake = await started({ checkStepUp: () => ALLOWED });
  const action = fake.client().action(BOB, OSQUERY);
  await action.run(() => assert.rejects(action.run(() => assert.fail("it ran")), /is running/));
});

test("an approval waits on a connection of its own, and continues after a cut", async () => {
  const pending = { challengeId: "c-1", state: 1, message: "Incident 7" };
  const approved = { ...pending, state: 2, usableUntil: TIME };
  async function* cut() {
    yield { challenge: pending };
    throw failure(status.UNAVAILABLE, { reason: "DRAINING" });
  }
  async function* answered() {
    yield { challenge: pending };
    yield { challenge: approved };
  }
  const fake = await started({
    createChallenge: inTurn(thrown(status.UNAVAILABLE), { challenge: pending }),
    awaitChallenge: inTurn(cut, answered),
  });
  const shown: string[] = [];
  const show = ({ message }: { message: string }) => shown.push(message);
  const approval = await fake.client().approve(BOB, ITEMS, "Incident 7", { show, expiresIn: 60_000 });
  assert.deepEqual([approval.challengeId, approval.usableUntil], ["c-1", new Date(1_800_000_000_000)]);
  assert.deepEqual(shown, ["Incident 7"]);
  const [first, second] = fake.requests;
  assert.equal(first.requestId, second.requestId);
  assert.equal(second.expiresIn.seconds, 60n);
});

test("a program may stop reading a stream", async () => {
  async function* watched() {
    yield { challenge: { challengeId: "c-1", state: 1 } };
    await hang();
  }
  const fake = await started({ awaitChallenge: watched });
  for await (const { challenge } of fake.client().challenges.watch({ actor: BOB, challengeId: "c-1" })) {
    assert.equal(challenge?.challengeId, "c-1");
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 100)); // an error event without a listener would end this process
});

test("an approval uses an earlier challenge only if its items are the same and unused", async () => {
  const item = { operation: OSQUERY, target: "host-7" };
  const earlier = { challengeId: "c-1", state: 2, usableUntil: TIME, items: [item] };
  const created = { challenge: { ...earlier, challengeId: "c-2" } };
  const fake = await started({
    getChallenge: inTurn(
      { challenge: earlier },
      { challenge: { ...earlier, items: [{ ...item, usedAt: TIME }] } },
      { challenge: { ...earlier, items: [{ ...item, target: "host-8" }] } },
      { challenge: { ...earlier, state: 5 } },
      thrown(status.FAILED_PRECONDITION, { reason: "CHALLENGE_STATE" }),
    ),
    createChallenge: () => created,
  });
  const stepup = fake.client();
  const ids = [];
  for (let each = 0; each < 5; each++) {
    ids.push((await stepup.approve(BOB, ITEMS, "Incident 7", { challengeId: "c-1" })).challengeId);
  }
  assert.deepEqual(ids, ["c-1", "c-2", "c-2", "c-2", "c-2"]);
});
