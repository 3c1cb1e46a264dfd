/** The client: what a program calls before it carries out an action. */

import { randomUUID } from "node:crypto";

import { Action } from "./action.js";
import { presenting, type Actor, type OperatorActor } from "./actor.js";
import {
  answerOf,
  verificationOf,
  type Allowed,
  type Answer,
  type Approved,
  type Verification,
} from "./answers.js";
import { Approvals, type ApproveOptions, type Item } from "./approvals.js";
import { Endpoint, type EndpointOptions } from "./endpoint.js";
import { argumentsOf } from "./environment.js";
import { AnswerError, NotAllowedError } from "./errors.js";
import {
  RevocationScope,
  StepUpService,
  type ExplainStepUpResponse,
} from "./gen/stepup/v1/step_up_service_pb.js";
import { servicesOver, type Services } from "./services.js";
import { Transport, type CallOptions } from "./transport.js";

/** The options of `StepUpClient`. */
export interface StepUpClientOptions extends EndpointOptions {
  /** Milliseconds for each call that names no other time, with all its resends. 5000 if undefined. */
  readonly timeout?: number | undefined;
  /**
   * Whether calls wait for a connection until their deadline. Otherwise they fail with
   * `UnavailableError` as soon as the server cannot be reached.
   */
  readonly waitForReady?: boolean | undefined;
}

/** The options of `check` and `require`. */
export interface CheckOptions extends CallOptions {
  /** The object of the action, or a digest of its parameters: at most 256 bytes. */
  readonly target?: string | undefined;
  /** The challenge that the person approved for this action. See `approve`. */
  readonly challengeId?: string | undefined;
  /**
   * The receipt of the answer that allowed the action at first, if this is the retry of an action
   * that timed out. See `action`.
   */
  readonly receipt?: string | undefined;
}

/** One check of `checkMany`. */
export interface Check {
  readonly operation: string;
  readonly target?: string;
  /** As `receipt` of `CheckOptions`, for this check. */
  readonly receipt?: string;
}

/** The options of `action`. */
export interface ActionOptions extends CheckOptions {
  /** Further errors of the function that mean that the action timed out. */
  readonly timedOut?: ((error: unknown) => boolean) | undefined;
}

const TIMEOUT = 5000;
const METHODS = StepUpService.method;

/**
 * A client of the service. It opens its connection with the first call; share it.
 *
 *     const stepup = new StepUpClient("stepup:50051", { credentials });
 *     await stepup.require(actor, "response.run_osquery", { target: "host-7" });
 *     // run the action
 *
 * An action may run only after an answer that is `allowed`. Every method that takes an `actor` acts
 * for that person in that session; the program vouches for each field. If the service does not
 * answer, for any reason, the call throws a `StepUpError`. All durations are in milliseconds.
 */
export class StepUpClient implements Services {
  readonly challenges: Services["challenges"];
  readonly enrollment: Services["enrollment"];
  readonly people: Services["people"];
  readonly policy: Services["policy"];
  readonly audit: Services["audit"];
  readonly portal: Services["portal"];
  readonly #transport: Transport;
  readonly #approvals: Approvals;

  /**
   * `target`: host and port, such as `stepup.prod:50051`, or `unix:/path`.
   * Throws an `Error` if the target needs credentials, or an option is not a value.
   */
  constructor(target: string, options: StepUpClientOptions = {}) {
    const { timeout = TIMEOUT, waitForReady = false } = options;
    const endpoint = new Endpoint(target, options);
    this.#transport = new Transport(endpoint, timeout, waitForReady);
    this.#approvals = new Approvals(this.#transport, endpoint, timeout);
    const services = servicesOver(this.#transport);
    this.challenges = services.challenges;
    this.enrollment = services.enrollment;
    this.people = services.people;
    this.policy = services.policy;
    this.audit = services.audit;
    this.portal = services.portal;
  }

  /**
   * Makes a client from `STEPUP_CLIENT_*` variables; `options` win over them. See the README.
   * Throws an `Error` that names the variable which is missing or is not a value.
   */
  static fromEnv(
    variables: Readonly<Record<string, string | undefined>> = process.env,
    options: StepUpClientOptions = {},
  ): StepUpClient {
    const found = argumentsOf(variables);
    return new StepUpClient(found.target, { ...found.options, ...options });
  }

  /** Closes all connections. Calls in flight still end. */
  close(): void {
    this.#approvals.close();
    this.#transport.close();
  }

  /**
   * Asks whether an action may run. Compare the `kind` of the answer: `if (answer)` is always true.
   * Throws a `StepUpError` if there is no answer; the action must not run then.
   *
   * `operation`: the catalogue id of the action, such as `response.run_osquery`.
   */
  async check(actor: Actor, operation: string, options: CheckOptions = {}): Promise<Answer> {
    return await this.#check(actor, operation, options, options.receipt, randomUUID());
  }

  /**
   * Returns the answer of `check` if the action may run. Throws `NotAllowedError` with the `answer`
   * if the person must do something first, and another `StepUpError` if there is no answer.
   */
  async require(actor: Actor, operation: string, options: CheckOptions = {}): Promise<Allowed> {
    return demandAllowed(await this.check(actor, operation, options));
  }

  /**
   * Asks for up to 100 actions of one person at once. Returns the answers, in the order of the
   * checks. Throws a `StepUpError` if there is no answer; none of the actions must run then.
   */
  async checkMany(
    actor: Actor,
    checks: readonly Check[],
    options: CallOptions & Pick<CheckOptions, "challengeId"> = {},
  ): Promise<readonly Answer[]> {
    const { decisions } = await this.#transport.unary(
      METHODS.batchCheckStepUp,
      {
        actor: presenting(actor, undefined, options.challengeId),
        checks: checks.map(({ operation, target = "", receipt = "" }) => ({
          operation,
          target,
          retryReceipt: receipt,
        })),
        requestId: randomUUID(),
      },
      options,
    );
    if (decisions.length !== checks.length) {
      throw new AnswerError(`the server answered ${decisions.length} of ${checks.length} checks`);
    }
    return Object.freeze(decisions.map(answerOf));
  }

  /**
   * Checks the code that the person typed; a right code elevates the session for 15 minutes. Sends a
   * code again if its answer was lost, which does not count as another attempt. Throws a
   * `StepUpError` if there is no answer: the code may be used up, so ask for the next one.
   *
   * `code`: six digits. White space, which people type or paste, does not count.
   */
  async verify(actor: Actor, code: string, options: CallOptions = {}): Promise<Verification> {
    const request = {
      actor: presenting(actor, undefined, undefined),
      code: code.replace(/\s/g, ""),
      requestId: randomUUID(),
    };
    return verificationOf(await this.#transport.resent(METHODS.verifyOtp, request, options));
  }

  /** Returns an action that runs only if it may, and again if it timed out. See `Action`. */
  action(actor: Actor, operation: string, options: ActionOptions = {}): Action {
    const require = async (receipt: string, requestId: string) =>
      demandAllowed(await this.#check(actor, operation, options, receipt, requestId));
    const { receipt = actor.retryReceipt ?? "", timedOut = () => false } = options;
    return new Action(require, receipt, timedOut);
  }

  /**
   * Asks the person to approve actions by name, and waits for the approval. Then check each item
   * with the `challengeId` of the approval, in the same session. Waits have connections of their
   * own, and continue after a server was replaced.
   *
   * Throws `NotApprovedError` if the person declined or the challenge ended, and another
   * `StepUpError` if there is no challenge.
   *
   * `actor`: the person to ask, in the session in which the actions will run.
   * `message`: says to the person what they approve: 1 to 500 characters.
   */
  async approve(
    actor: Actor,
    items: readonly Item[],
    message: string,
    options: ApproveOptions = {},
  ): Promise<Approved> {
    return await this.#approvals.approve(presenting(actor, undefined, undefined), items, message, options);
  }

  /**
   * Ends the elevation of the actor's session, at its sign-out. Throws a `StepUpError` if the
   * elevation may still be in force.
   */
  async signOut(actor: Actor, options: CallOptions = {}): Promise<void> {
    await this.#revoke(actor, RevocationScope.SESSION, "", options);
  }

  /**
   * Ends every elevation of a user, and voids the user's receipts and challenges. Throws a
   * `StepUpError` if elevations may still be in force.
   *
   * `actor`: the user, or an operator; the operator names the user in `options.userId`.
   */
  async revokeElevations(
    actor: Actor | OperatorActor,
    options: CallOptions & { readonly userId?: string | undefined } = {},
  ): Promise<void> {
    await this.#revoke(actor, RevocationScope.USER, options.userId ?? "", options);
  }

  /**
   * Explains how a check would be answered now. The explanation never allows an action.
   *
   * `actor`: the subject itself, a Master Administrator, or an operator.
   * `subject`: the person of the check.
   */
  async explain(
    actor: Actor | OperatorActor,
    subject: Actor,
    operation: string,
    options: CallOptions & Pick<CheckOptions, "target"> = {},
  ): Promise<ExplainStepUpResponse> {
    return await this.#transport.unary(
      METHODS.explainStepUp,
      {
        actor: presenting(actor, undefined, undefined),
        subject: presenting(subject, undefined, undefined),
        operation,
        target: options.target ?? "",
      },
      options,
    );
  }

  async #check(
    actor: Actor,
    operation: string,
    options: CheckOptions,
    receipt: string | undefined,
    requestId: string,
  ): Promise<Answer> {
    const request = {
      actor: presenting(actor, receipt, options.challengeId),
      operation,
      target: options.target ?? "",
      requestId,
    };
    return answerOf(await this.#transport.unary(METHODS.checkStepUp, request, options));
  }

  async #revoke(
    actor: Actor | OperatorActor,
    scope: RevocationScope,
    userId: string,
    options: CallOptions,
  ): Promise<void> {
    const request = { actor: presenting(actor, undefined, undefined), scope, userId };
    await this.#transport.unary(METHODS.revokeElevations, request, options);
  }
}

function demandAllowed(answer: Answer): Allowed {
  if (answer.kind !== "allowed") {
    throw new NotAllowedError(answer);
  }
  return answer;
}
