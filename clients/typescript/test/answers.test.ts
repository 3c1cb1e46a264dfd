import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";

import { AnswerError, NotAllowedError, NotApprovedError, type StepUpClient } from "stepup-authz";
import { ChallengeState, Decision, DecisionReason, NotElevatedDetail, Outcome } from "stepup-authz/messages";

import { BOB, Fake, OSQUERY, decided, hang } from "./helpers/fake.js";

let fake: Fake;
let stepup: StepUpClient;
let answer: unknown;
const ITEMS = [{ operation: OSQUERY, target: "host-7", label: "Mail server" }];

before(async () => {
  const scripted = () => answer;
  fake = await Fake.start({
    checkStepUp: scripted,
    batchCheckStepUp: scripted,
    verifyOtp: scripted,
    createChallenge: scripted,
    awaitChallenge: hang,
  });
  stepup = fake.client();
});
after(() => fake.stop());

/** Tries to run the action in both ways, and returns the errors. */
async function refusals(): Promise<unknown[]> {
  let ran = false;
  const run = () => {
    ran = true;
  };
  const calls = [stepup.require(BOB, OSQUERY).then(run), stepup.action(BOB, OSQUERY).run(run)];
  const errors = await Promise.all(calls.map((call) => call.catch((error: unknown) => error)));
  assert.equal(ran, false);
  return errors;
}

test("an allowed action runs, with its reason and receipt", async () => {
  const expiresAt = { seconds: 1_800_000_000n, nanos: 0 };
  const { ALLOWED } = Decision;
  answer = decided({ decision: ALLOWED, reason: DecisionReason.ELEVATED, receipt: "r-1", elevation: { expiresAt } });
  const allowed = await stepup.require(BOB, OSQUERY, { target: "host-7" });
  assert.equal(allowed.kind, "allowed");
  assert.equal(allowed.reason, "ELEVATED");
  assert.equal(allowed.receipt, "r-1");
  assert.deepEqual(allowed.elevationExpiresAt, new Date(1_800_000_000_000));
  const { actor, operation, target, requestId } = fake.requests.at(-1);
  assert.deepEqual([actor.userId, operation, target], ["bob", OSQUERY, "host-7"]);
  assert.match(requestId, /^[0-9a-f-]{36}$/);
});

test("neither the console nor JSON shows a receipt", async () => {
  answer = decided({ decision: Decision.ALLOWED, reason: DecisionReason.ELEVATED, receipt: "secret-1" });
  const allowed = await stepup.check(BOB, OSQUERY);
  assert.doesNotMatch(inspect(allowed) + JSON.stringify(allowed), /secret-1/);
});

test("a required code says how old an elevation may be, and why there is none", async () => {
  answer = decided({
    decision: Decision.STEP_UP_REQUIRED,
    reason: DecisionReason.NOT_ELEVATED,
    requirement: { maxAge: { seconds: 90n } },
    detail: NotElevatedDetail.EXPIRED,
  });
  const required = await stepup.check(BOB, OSQUERY);
  assert.ok(required.kind === "step_up_required");
  assert.deepEqual([required.maxAge, required.needsChallenge, required.detail], [90_000, false, "EXPIRED"]);
  for (const error of await refusals()) {
    assert.ok(error instanceof NotAllowedError);
    assert.deepEqual(error.answer, required);
  }
});

test("a required enrollment is neither a code nor a permission", async () => {
  answer = decided({
    decision: Decision.ENROLLMENT_REQUIRED,
    reason: DecisionReason.NOT_ENROLLED,
    requirement: { challenge: true },
  });
  const required = await stepup.check(BOB, OSQUERY);
  assert.ok(required.kind === "enrollment_required");
  assert.equal(required.needsChallenge, true);
  assert.ok((await refusals()).every((error) => error instanceof NotAllowedError));
});

const UNKNOWN = {
  "an empty response": {},
  "a decision that is not known": decided({ decision: 99 as Decision, reason: DecisionReason.ELEVATED }),
  "a reason that is not known": decided({ decision: Decision.ALLOWED, reason: 99 as DecisionReason }),
  "no reason": decided({ decision: Decision.ALLOWED }),
  "a permission with the reason of a refusal": decided({
    decision: Decision.ALLOWED,
    reason: DecisionReason.NOT_ELEVATED,
  }),
  "a refusal with the reason of a permission": decided({
    decision: Decision.STEP_UP_REQUIRED,
    reason: DecisionReason.ELEVATED,
  }),
  "bytes that are no message": Buffer.from("ffff", "hex"),
};
for (const [name, response] of Object.entries(UNKNOWN)) {
  test(`${name} lets no action run`, async () => {
    answer = response;
    const checked = await stepup.check(BOB, OSQUERY).catch((error: unknown) => error);
    for (const error of [checked, ...(await refusals())]) {
      assert.ok(error instanceof AnswerError, String(error));
      assert.equal(error.retryable, false);
    }
  });
}

test("a batch has one answer for each check, in order", async () => {
  answer = {
    decisions: [
      decided({ decision: Decision.ALLOWED, reason: DecisionReason.ELEVATED }),
      decided({ decision: Decision.STEP_UP_REQUIRED, reason: DecisionReason.EVERY_TIME }),
    ],
  };
  const checks = [{ operation: OSQUERY, receipt: "r-1" }, { operation: OSQUERY, target: "host-7" }];
  const answers = await stepup.checkMany(BOB, checks);
  assert.deepEqual(answers.map(({ kind }) => kind), ["allowed", "step_up_required"]);
  assert.equal(fake.requests.at(-1).checks[0].retryReceipt, "r-1");
  await assert.rejects(stepup.checkMany(BOB, [...checks, ...checks]), AnswerError);
});

test("a code is verified only with the elevation that it gives", async () => {
  const time = { seconds: 1_800_000_000n };
  answer = { outcome: Outcome.VERIFIED, elevation: { verifiedAt: time, expiresAt: time } };
  assert.equal((await stepup.verify(BOB, " 123 456 ")).kind, "verified");
  assert.equal(fake.requests.at(-1).code, "123456");
  answer = { outcome: Outcome.REJECTED, attemptsRemaining: 4, nextCodeAfter: { seconds: 12n } };
  const rejected = await stepup.verify(BOB, "123456");
  assert.ok(rejected.kind === "not_verified");
  assert.deepEqual([rejected.outcome, rejected.attemptsRemaining, rejected.nextCodeAfter], ["REJECTED", 4, 12_000]);
});

for (const outcome of [Outcome.UNSPECIFIED, 99 as Outcome, Outcome.VERIFIED]) {
  test(`outcome ${outcome} without an elevation verifies nothing`, async () => {
    answer = { outcome };
    await assert.rejects(stepup.verify(BOB, "123456"), AnswerError);
  });
}

for (const state of [ChallengeState.UNSPECIFIED, 99 as ChallengeState, ChallengeState.APPROVED]) {
  test(`challenge state ${state} without the end of an approval approves nothing`, async () => {
    answer = { challenge: { challengeId: "c-1", state } };
    await assert.rejects(stepup.approve(BOB, ITEMS, "Incident 7"), AnswerError);
  });
}

for (const state of ["DECLINED", "CANCELLED", "EXPIRED"] as const) {
  test(`a challenge that is ${state} is not approved`, async () => {
    answer = { challenge: { challengeId: "c-1", state: ChallengeState[state] } };
    await assert.rejects(stepup.approve(BOB, ITEMS, "Incident 7"), (error) => {
      assert.ok(error instanceof NotApprovedError);
      return error.state === state;
    });
  });
}

test("a person who does not answer in time has not approved", async () => {
  answer = { challenge: { challengeId: "c-1", state: ChallengeState.PENDING } };
  await assert.rejects(stepup.approve(BOB, ITEMS, "Incident 7", { timeout: 300 }), (error) => {
    assert.ok(error instanceof NotApprovedError);
    return error.state === "PENDING";
  });
});
