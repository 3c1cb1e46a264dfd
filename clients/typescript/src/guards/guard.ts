/**
 * What the guards share: the question, and how they refuse a request.
 *
 * 401 with `WWW-Authenticate: Bearer error="insufficient_user_authentication"` (RFC 9470 §3) and a
 * problem document (RFC 9457), or 503 if there is no decision.
 */

import type { Actor } from "../actor.js";
import type { Allowed } from "../answers.js";
import type { StepUpClient } from "../client.js";
import { NotAllowedError, type StepUpError } from "../errors.js";

/** The authentication context that a one-time code reaches. */
const ACR = "urn:stepup:acr:otp";

/** The options of a guard. */
export interface GuardOptions<Request> {
  /**
   * Returns the person of a request, from the program's own session: never from a header that the
   * browser may set. For an approved challenge it sets `challengeId`.
   */
  readonly actor: (request: Request) => Actor | Promise<Actor>;
  /** Called with each error instead of a decision, for the log; the request is refused anyway. */
  readonly onError?: ((error: StepUpError, request: Request) => void) | undefined;
}

/** The options of one guarded route. */
export interface RouteOptions<Request> {
  /**
   * Returns the object of the action, or a digest of its parameters: at most 256 bytes. Without it
   * the target is empty, and no challenge can approve the action.
   */
  readonly target?: ((request: Request) => string | Promise<string>) | undefined;
}

/** The response to a refused request. */
export interface Refusal {
  readonly status: 401 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The body of a refusal. */
export interface StepUpProblem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly operation: string;
  /** The id of the decision in the decision log. */
  readonly decision_id?: string;
  /** The rule that refused, such as `NOT_ELEVATED`. */
  readonly rule?: string;
  /** Whether only a challenge helps, and no code. */
  readonly challenge?: boolean;
  /** How old an elevation may be, in seconds. */
  readonly max_age?: number;
  /** Why the session is not elevated, if it is known: `NEVER`, `EXPIRED`, `REVOKED`, `OTHER_SESSION`. */
  readonly cause?: string;
}

const allowedRequests = new WeakMap<object, Allowed>();

/** Returns the answer that allowed a request, for its receipt. Throws an `Error` if no guard did. */
export function allowedOf(request: object): Allowed {
  const allowed = allowedRequests.get(request);
  if (allowed === undefined) {
    throw new Error("no guard has allowed this request");
  }
  return allowed;
}

/** Asks for one request. Throws a `StepUpError`, or an `Error` of the program's functions. */
export async function demandAllowed<Request extends object>(
  client: StepUpClient,
  { actor }: GuardOptions<Request>,
  operation: string,
  { target }: RouteOptions<Request>,
  request: Request,
): Promise<void> {
  const person = await actor(request);
  if (!person) {
    throw new TypeError("the guard's actor function returned no actor");
  }
  const object = target && (await target(request));
  if (target && !object) {
    throw new TypeError("the guard's target function returned no target");
  }
  allowedRequests.set(request, await client.require(person, operation, { target: object }));
}

/** Returns an `Error` whatever was thrown: frameworks take some other values for permission. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error("the guard failed", { cause: thrown });
}

/** Returns the response to a refused request, without texts of the service. */
export function refusalOf(error: StepUpError, operation: string): Refusal {
  const headers = { "content-type": "application/problem+json", "cache-control": "no-store" };
  if (!(error instanceof NotAllowedError)) {
    const problem: StepUpProblem = {
      type: "urn:stepup:problem:no-decision",
      title: "There is no decision at the moment",
      status: 503,
      operation,
    };
    const retry =
      error.retryAfter !== undefined && { "retry-after": `${Math.ceil(error.retryAfter / 1000)}` };
    return { status: 503, headers: { ...headers, ...retry }, body: JSON.stringify(problem) };
  }
  const { answer } = error;
  const isStepUp = answer.kind === "step_up_required";
  const title = isStepUp ? "A one-time code is required" : "An authenticator is required";
  const maxAge = answer.maxAge === undefined ? undefined : Math.floor(answer.maxAge / 1000);
  const problem: StepUpProblem = {
    type: `urn:stepup:problem:${isStepUp ? "step-up-required" : "enrollment-required"}`,
    title,
    status: 401,
    operation,
    decision_id: answer.decisionId,
    rule: answer.reason,
    challenge: answer.needsChallenge,
    ...(maxAge !== undefined && { max_age: maxAge }),
    ...(isStepUp && answer.detail && { cause: answer.detail }),
  };
  const parameters = {
    error: "insufficient_user_authentication",
    error_description: title,
    acr_values: ACR,
    ...(maxAge !== undefined && { max_age: maxAge }),
  };
  const challenge = Object.entries(parameters).map(([name, value]) => `${name}="${value}"`);
  return {
    status: 401,
    headers: { ...headers, "www-authenticate": `Bearer ${challenge.join(", ")}` },
    body: JSON.stringify(problem),
  };
}

/** Passes an error to `onError`, unless it is the answer that the person must do something. */
export function report<Request>(
  { onError }: GuardOptions<Request>,
  error: StepUpError,
  request: Request,
): void {
  if (!(error instanceof NotAllowedError)) {
    onError?.(error, request);
  }
}
