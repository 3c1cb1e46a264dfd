/**
 * What a client throws: one tree. None of these errors lets an action run.
 *
 *     StepUpError
 *     |- NotAllowedError     the answer of `require` or of an action is not `allowed`
 *     |- NotApprovedError    the person did not approve a challenge
 *     |- UnavailableError    there is no answer now
 *     |- RequestError        the request, the credentials or the permissions must be corrected
 *     |- StateError          the state of a person, policy or challenge does not permit the call
 *     `- AnswerError         the server failed, or answered with something that is not an answer
 */

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { status, type ServiceError } from "@grpc/grpc-js";

import type { EnrollmentRequired, StepUpRequired } from "./answers.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import type { Challenge } from "./gen/stepup/v1/challenge_service_pb.js";

/** What an error says beside its message. */
export interface ErrorFacts {
  readonly code?: string;
  readonly reason?: string;
  readonly field?: string;
  readonly retryable?: boolean;
  readonly retryAfter?: number | undefined;
  readonly details?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** There is no permission to run the action. `cause` is the error of gRPC, where there is one. */
export class StepUpError extends Error {
  override readonly name: string = "StepUpError";
  /** The status of gRPC by name, such as `UNAVAILABLE`; empty if the error is not a status. */
  readonly code: string;
  /** The reason by name, such as `STORE_UNAVAILABLE`; empty if the error has none. */
  readonly reason: string;
  /** The field of the request that must be corrected, such as `actor.user_id`; or empty. */
  readonly field: string;
  /**
   * Whether the same request may succeed when it is sent again. A call that changes something may
   * have changed it: read the state first, unless the call has a request id.
   */
  readonly retryable: boolean;
  /** The shortest time until then, in milliseconds; undefined if the server names none. */
  readonly retryAfter: number | undefined;
  /** What a program can act on, such as `next_step` of `ELEVATION_REQUIRED`. */
  readonly details: Readonly<Record<string, string>>;

  constructor(message: string, facts: ErrorFacts = {}) {
    super(message, "cause" in facts ? { cause: facts.cause } : undefined);
    this.code = facts.code ?? "";
    this.reason = facts.reason ?? "";
    this.field = facts.field ?? "";
    this.retryable = facts.retryable ?? false;
    this.retryAfter = facts.retryAfter;
    this.details = facts.details ?? {};
  }
}

/** The action must not run: the person must give a code, approve a challenge, or enrol first. */
export class NotAllowedError extends StepUpError {
  override readonly name = "NotAllowedError";
  /** What the person must do. */
  readonly answer: StepUpRequired | EnrollmentRequired;

  constructor(answer: StepUpRequired | EnrollmentRequired) {
    super(`${answer.kind}: ${answer.reason} (decision ${answer.decisionId})`, {
      reason: answer.reason,
    });
    this.answer = answer;
  }
}

/** The person did not approve the challenge. */
export class NotApprovedError extends StepUpError {
  override readonly name = "NotApprovedError";
  /** `DECLINED`, `CANCELLED`, `EXPIRED`; or `PENDING` if the time of the caller is over. */
  readonly state: string;
  /** The challenge as the server last described it. */
  readonly challenge: Challenge;

  constructor(state: string, challenge: Challenge) {
    super(`challenge ${challenge.challengeId} is ${state}`, { reason: state });
    this.state = state;
    this.challenge = challenge;
  }
}

/** There is no answer now: the server, or one of its stores, cannot be reached or is busy. */
export class UnavailableError extends StepUpError {
  override readonly name = "UnavailableError";
}

/** The server refuses the request: correct its fields, the credentials, or the permissions. */
export class RequestError extends StepUpError {
  override readonly name = "RequestError";
}

/** The present state does not permit the call: see `reason` and `details`. */
export class StateError extends StepUpError {
  override readonly name = "StateError";
}

/** The server failed, or the answer is not one that this client knows. */
export class AnswerError extends StepUpError {
  override readonly name = "AnswerError";
}

type ErrorClass = new (message: string, facts: ErrorFacts) => StepUpError;

const CLASSES: ReadonlyMap<string, ErrorClass> = new Map<string, ErrorClass>([
  ["CANCELLED", UnavailableError],
  ["UNAVAILABLE", UnavailableError],
  ["DEADLINE_EXCEEDED", UnavailableError],
  ["RESOURCE_EXHAUSTED", UnavailableError],
  ["INVALID_ARGUMENT", RequestError],
  ["OUT_OF_RANGE", RequestError],
  ["UNAUTHENTICATED", RequestError],
  ["PERMISSION_DENIED", RequestError],
  ["UNIMPLEMENTED", RequestError],
  ["FAILED_PRECONDITION", StateError],
  ["ABORTED", StateError],
  ["ALREADY_EXISTS", StateError],
  ["NOT_FOUND", StateError],
]);
const RETRYABLE: ReadonlySet<string> = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"]);

/** Returns the error of the tree for an error of grpc-js. */
export function errorOf(error: ServiceError): StepUpError {
  const code = status[error.code] ?? "UNKNOWN";
  const { info, field, retryAfter } = detailsOf(error);
  const Class = CLASSES.get(code) ?? AnswerError;
  return new Class(`${code}: ${error.details}`, {
    code,
    reason: info?.reason ?? "",
    field,
    retryable: RETRYABLE.has(code) || retryAfter !== undefined,
    retryAfter,
    details: info?.metadata ?? {},
    cause: error,
  });
}

function detailsOf(error: ServiceError) {
  let info;
  let field = "";
  let retryAfter: number | undefined;
  for (const any of packedDetails(error)) {
    const found = anyUnpack(any, ErrorInfoSchema);
    if (found?.domain === "stepup") {
      info = found;
    }
    field = anyUnpack(any, BadRequestSchema)?.fieldViolations[0]?.field ?? field;
    const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
    retryAfter = delay === undefined ? retryAfter : durationMs(delay);
  }
  return { info, field, retryAfter };
}

function packedDetails(error: ServiceError) {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(packed instanceof Uint8Array)) {
    return [];
  }
  try {
    return fromBinary(StatusSchema, packed).details;
  } catch {
    return []; // a proxy wrote it: the status counts without its details
  }
}
