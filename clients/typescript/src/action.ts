/** An action that runs only if it is allowed. A receipt proves that a run is a retry. */

import { randomUUID } from "node:crypto";

import type { Allowed } from "./answers.js";
import { NotAllowedError } from "./errors.js";

/** Milliseconds for which the server certainly takes a request with the same id for the same request. */
const SAME_REQUEST_FOR = 50_000;

/** The receipt that a check of an `Action` presents, and the id of the request. */
export type Require = (receipt: string, requestId: string) => Promise<Allowed>;

/**
 * An action that may be tried again, because it timed out, without another code.
 *
 *     const action = stepup.action(actor, "response.run_osquery", { target: "host-7" });
 *     await action.run(() => runOsquery("host-7", AbortSignal.timeout(30_000)));
 *
 * The function runs only after an answer that is `allowed`. If it fails with a `TimeoutError`
 * (`AbortSignal.timeout`), with `ETIMEDOUT`, or with an error that `timedOut` accepts, the action
 * keeps the receipt of that answer, and presents the receipt in the next `run`: within 60 minutes of
 * the first try, and with the same session. If the function ends otherwise, the next try needs an
 * elevation or an approval, as the first one did. An answer that is lost uses up no receipt, if the
 * action runs again within 50 seconds.
 *
 * An object is one action: it may run again after it ended, and not twice at a time.
 */
export class Action {
  readonly #require: Require;
  readonly #timedOut: (error: unknown) => boolean;
  #receipt: string;
  #requestId = "";
  #sentAt = 0;
  #allowed: Allowed | undefined;
  #isRunning = false;

  constructor(require: Require, receipt: string, timedOut: (error: unknown) => boolean) {
    this.#require = require;
    this.#receipt = receipt;
    this.#timedOut = timedOut;
  }

  /**
   * What the next try presents; empty if the action did not time out. Another process passes it to
   * `action(..., { receipt })`. Keep it as confidential as the action.
   */
  get receipt(): string {
    return this.#receipt;
  }

  /** Says in the function that the action timed out, where no error does. */
  keepReceipt(): void {
    if (this.#allowed === undefined) {
      throw new Error("the action does not run");
    }
    this.#receipt = this.#allowed.receipt;
  }

  /**
   * Asks whether the action may run, and runs it.
   *
   * Throws `NotAllowedError` if the person must do something first, another `StepUpError` if there
   * is no answer, and an `Error` if the action is running; the function does not run then. An
   * error of the function passes through.
   */
  async run<T>(run: (allowed: Allowed) => T | Promise<T>): Promise<T> {
    if (this.#isRunning) {
      throw new Error("the action is running: make an object for each action");
    }
    this.#isRunning = true;
    try {
      const allowed = await this.#ask();
      this.#allowed = allowed;
      this.#receipt = "";
      try {
        return await run(allowed);
      } catch (error) {
        if (isTimeout(error) || this.#timedOut(error)) {
          this.keepReceipt();
        }
        throw error;
      } finally {
        this.#allowed = undefined;
      }
    } finally {
      this.#isRunning = false;
    }
  }

  async #ask(): Promise<Allowed> {
    const now = performance.now();
    if (!this.#requestId || now - this.#sentAt > SAME_REQUEST_FOR) {
      this.#requestId = randomUUID();
      this.#sentAt = now;
    }
    try {
      const allowed = await this.#require(this.#receipt, this.#requestId);
      this.#requestId = "";
      return allowed;
    } catch (error) {
      if (error instanceof NotAllowedError) {
        this.#requestId = "";
      } // else the answer may be lost: the next try is the same request
      throw error;
    }
  }
}

function isTimeout(error: unknown): boolean {
  return (
    error instanceof Error &&
    (error.name === "TimeoutError" || (error as NodeJS.ErrnoException).code === "ETIMEDOUT")
  );
}
