/** What the compiler refuses. The functions never run: `tsc` is the test. */

import { stepUpGuard } from "stepup-authz/express";
import { StepUpClient, type Answer, type StepUpClientOptions } from "stepup-authz";

import { BOB, OSQUERY } from "./helpers/fake.js";

export async function refused(stepup: StepUpClient, answer: Answer): Promise<void> {
  // @ts-expect-error: a person has a session
  await stepup.check({ tenantId: "acme", userId: "bob" }, OSQUERY);
  // @ts-expect-error: an operator is not a person
  await stepup.check({ tenantId: "acme", operator: { name: "olga", reason: "incident" } }, OSQUERY);
  // @ts-expect-error: a promise is not an answer
  if (stepup.check(BOB, OSQUERY)) return;
  // @ts-expect-error: only the answer `allowed` has a receipt
  answer.receipt;
  // @ts-expect-error: an answer does not change
  answer.kind = "allowed";
  // @ts-expect-error: not a kind of answer
  if (answer.kind === "denied") return;
  // @ts-expect-error: a guard needs a function for the actor
  stepUpGuard(stepup, {});
  // @ts-expect-error: there is no option that lets an action run without an answer
  const options: StepUpClientOptions = { failOpen: true };
  new StepUpClient("stepup:50051", options);
}

/** A new kind of answer would not compile here. */
export function isExhaustive(answer: Answer): string {
  switch (answer.kind) {
    case "allowed":
    case "step_up_required":
    case "enrollment_required":
      return answer.kind;
  }
}
