/**
 * The answers of the client.
 *
 * An answer is an object, so `if (answer)` is always true: compare its `kind`, or call `require` or
 * an action, which throw unless the answer is `allowed`. All durations are in milliseconds.
 */

import { durationMs, timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";

import { AnswerError, NotApprovedError } from "./errors.js";
import { ChallengeState, type Challenge } from "./gen/stepup/v1/challenge_service_pb.js";
import {
  ChallengeRejection,
  Decision,
  DecisionReason,
  NotElevatedDetail,
  Outcome,
  ReceiptRejection,
  type CheckStepUpResponse,
  type VerifyOtpResponse,
} from "./gen/stepup/v1/step_up_service_pb.js";

const ALLOWED_REASONS = [
  "MFA_NOT_ENABLED",
  "OPERATION_NOT_SELECTED",
  "EXEMPT_MANAGED_SERVICES",
  "EXEMPT_AUTOMATIC_PLAYBOOK",
  "EXEMPT_TIMED_OUT_RETRY",
  "ELEVATED",
  "SIGN_IN_NOT_SUPPORTED_FOR_SAML",
  "CHALLENGE_APPROVED",
  "ENROLLMENT_GRACE",
] as const satisfies readonly (keyof typeof DecisionReason)[];
const STEP_UP_REASONS = [
  "NOT_ELEVATED",
  "ELEVATION_TOO_OLD",
  "EVERY_TIME",
] as const satisfies readonly (keyof typeof DecisionReason)[];
const NOT_VERIFIED = [
  "REJECTED",
  "THROTTLED",
  "NOT_ENROLLED",
  "SUSPENDED",
  "SESSION_SPENT",
] as const satisfies readonly (keyof typeof Outcome)[];

/** What every answer has. */
interface Answered {
  /** The id of the decision in the decision log: a UUID. */
  readonly decisionId: string;
  /** Why the presented receipt gave no exemption, such as `EXPIRED`; empty if none was rejected. */
  readonly receiptRejection: string;
  /** Why the presented challenge did not allow the action; empty if none was rejected. */
  readonly challengeRejection: string;
  /** The version of the policy that decided. */
  readonly policyEtag: string;
}

/** The action may run now, once. */
export interface Allowed extends Answered {
  readonly kind: "allowed";
  /** The rule that allowed. */
  readonly reason: (typeof ALLOWED_REASONS)[number];
  /**
   * Proves this decision for a retry of the action, if the action times out. Empty if the policy
   * does not select the operation. Keep it as confidential as the action: JSON and the console do
   * not show it.
   */
  readonly receipt: string;
  /** The end of the session's elevation. Undefined unless the reason is `ELEVATED`. */
  readonly elevationExpiresAt: Date | undefined;
  /** The end of the person's time to enrol. Undefined unless the reason is `ENROLLMENT_GRACE`. */
  readonly enrollBy: Date | undefined;
}

interface Required extends Answered {
  /** How old an elevation may be for this operation. Undefined if `needsChallenge`. */
  readonly maxAge: number | undefined;
  /** Whether no elevation helps: the person must approve this very action. See `approve`. */
  readonly needsChallenge: boolean;
}

/** The action must not run: the person must give a code first. */
export interface StepUpRequired extends Required {
  readonly kind: "step_up_required";
  readonly reason: (typeof STEP_UP_REASONS)[number];
  /**
   * Why the session is not elevated, for a message to the person: `NEVER`, `EXPIRED`, `REVOKED`,
   * `OTHER_SESSION`; empty if the cause is not recorded.
   */
  readonly detail: string;
}

/** The action must not run: the person must enrol an authenticator first. */
export interface EnrollmentRequired extends Required {
  readonly kind: "enrollment_required";
  readonly reason: "NOT_ENROLLED";
}

/** What a check answers. Whatever is not an answer is thrown as a `StepUpError`. */
export type Answer = Allowed | StepUpRequired | EnrollmentRequired;

/** The code was right, and the session is elevated. Check again before the action. */
export interface Verified {
  readonly kind: "verified";
  /** The time at which the code arrived. */
  readonly verifiedAt: Date;
  /** The end of the elevation: 15 minutes after `verifiedAt`. */
  readonly expiresAt: Date;
  /** As in `NotVerified`. */
  readonly attemptsRemaining: number;
}

/** The code elevates nothing. The session may still have an earlier elevation. */
export interface NotVerified {
  readonly kind: "not_verified";
  /**
   * `REJECTED`: ask for another code. `THROTTLED`: locked for `retryAfter`. `NOT_ENROLLED`: the
   * person has no authenticator. `SUSPENDED`: the authenticator must be reset. `SESSION_SPENT`: the
   * person must sign in again, for a new session id.
   */
  readonly outcome: (typeof NOT_VERIFIED)[number];
  /** The number of wrong codes before the next lock, or before the session is spent. */
  readonly attemptsRemaining: number;
  /** The remaining time of the lock; undefined if the person is not locked. */
  readonly retryAfter: number | undefined;
  /**
   * For a code that was used before or came a moment late: the time until the next code begins.
   * Such a code does not count as an attempt.
   */
  readonly nextCodeAfter: number | undefined;
}

/** What `verify` answers. */
export type Verification = Verified | NotVerified;

/** A person approved the items of a challenge: each may run once, until `usableUntil`. */
export interface Approved {
  readonly kind: "approved";
  /** Present it with the check of each item, in the session for which it was created. */
  readonly challengeId: string;
  /** The end of the approval. */
  readonly usableUntil: Date;
  /** The whole challenge, with its items and which of them were used. */
  readonly challenge: Challenge;
}

/** Reads a decision. Throws `AnswerError` if this client does not know it with its reason. */
export function answerOf(response: CheckStepUpResponse): Answer {
  const reason = DecisionReason[response.reason] as keyof typeof DecisionReason | undefined;
  const answered = {
    decisionId: response.decisionId,
    receiptRejection: nameOf(ReceiptRejection, response.receiptRejection),
    challengeRejection: nameOf(ChallengeRejection, response.challengeRejection),
    policyEtag: response.policyEtag,
  };
  const required = {
    ...answered,
    maxAge: milliseconds(response.requirement?.maxAge),
    needsChallenge: response.requirement?.challenge ?? false,
  };
  if (response.decision === Decision.ALLOWED && isOneOf(reason, ALLOWED_REASONS)) {
    const allowed = {
      kind: "allowed",
      reason,
      ...answered,
      receipt: response.receipt,
      elevationExpiresAt: date(response.elevation?.expiresAt),
      enrollBy: date(response.enrollBy),
    } as const;
    Object.defineProperty(allowed, "receipt", { enumerable: false });
    return Object.freeze(allowed);
  }
  if (response.decision === Decision.STEP_UP_REQUIRED && isOneOf(reason, STEP_UP_REASONS)) {
    const detail = nameOf(NotElevatedDetail, response.detail);
    return Object.freeze({ kind: "step_up_required", reason, ...required, detail });
  }
  if (response.decision === Decision.ENROLLMENT_REQUIRED && reason === "NOT_ENROLLED") {
    return Object.freeze({ kind: "enrollment_required", reason, ...required });
  }
  throw new AnswerError(
    `the server answered decision ${response.decision} with reason ${response.reason}, which this` +
      " client does not know: do not run the action. Is the server newer than the client?",
  );
}

/** Reads the outcome of a code. Throws `AnswerError` if this client does not know it. */
export function verificationOf(response: VerifyOtpResponse): Verification {
  const outcome = Outcome[response.outcome] as keyof typeof Outcome | undefined;
  const { attemptsRemaining } = response;
  const verifiedAt = date(response.elevation?.verifiedAt);
  const expiresAt = date(response.elevation?.expiresAt);
  if (outcome === "VERIFIED" && verifiedAt !== undefined && expiresAt !== undefined) {
    return Object.freeze({ kind: "verified", verifiedAt, expiresAt, attemptsRemaining });
  }
  if (isOneOf(outcome, NOT_VERIFIED)) {
    return Object.freeze({
      kind: "not_verified",
      outcome,
      attemptsRemaining,
      retryAfter: milliseconds(response.retryAfter),
      nextCodeAfter: milliseconds(response.nextCodeAfter),
    });
  }
  throw new AnswerError(
    `the server answered outcome ${response.outcome}, which this client does not know: the code` +
      " counts as not verified. Is the server newer than the client?",
  );
}

/** Returns the state of a challenge by name. Throws `AnswerError` if this client does not know it. */
export function stateOf(challenge: Challenge): Exclude<keyof typeof ChallengeState, "UNSPECIFIED"> {
  const state = ChallengeState[challenge.state] as keyof typeof ChallengeState | undefined;
  if (state === undefined || state === "UNSPECIFIED") {
    throw new AnswerError(
      `the server answered challenge state ${challenge.state}, which this client does not know:` +
        " nothing is approved. Is the server newer than the client?",
    );
  }
  return state;
}

/** Returns the approval of a challenge. Throws `NotApprovedError` if the challenge has none. */
export function approvalOf(challenge: Challenge): Approved {
  const state = stateOf(challenge);
  const usableUntil = date(challenge.usableUntil);
  if (state !== "APPROVED") {
    throw new NotApprovedError(state, challenge);
  }
  if (usableUntil === undefined) {
    throw new AnswerError("the server answered an approval without its end: nothing is approved");
  }
  const { challengeId } = challenge;
  return Object.freeze({ kind: "approved", challengeId, usableUntil, challenge });
}

function isOneOf<T extends string>(name: string | undefined, names: readonly T[]): name is T {
  return (names as readonly (string | undefined)[]).includes(name);
}

/** The name of an enum's value; empty for UNSPECIFIED. */
function nameOf(names: Readonly<Record<number, string>>, value: number): string {
  return value === 0 ? "" : (names[value] ?? "UNKNOWN_TO_THIS_CLIENT");
}

function milliseconds(duration: Parameters<typeof durationMs>[0] | undefined): number | undefined {
  return duration && durationMs(duration);
}

function date(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && timestampDate(timestamp);
}
