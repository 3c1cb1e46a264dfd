/**
 * A guard for Express 4 and 5.
 *
 *     const guard = stepUpGuard(stepup, { actor: (request) => request.session.actor });
 *     app.post(
 *       "/hosts/:host/shell",
 *       guard("response.start_remote_shell", { target: (request) => request.params.host }),
 *       startShell,
 *     );
 */

import type { Request, RequestHandler } from "express";

import type { StepUpClient } from "../client.js";
import { StepUpError } from "../errors.js";
import { asError, demandAllowed, refusalOf, report, type GuardOptions, type RouteOptions } from "./guard.js";

export { allowedOf, type GuardOptions, type RouteOptions, type StepUpProblem } from "./guard.js";

/** Returns a handler that lets the next one run only after the answer `allowed`. */
export type ExpressGuard = (operation: string, options?: RouteOptions<Request>) => RequestHandler;

/**
 * Returns a maker of handlers. A request without permission gets 401 or 503; an error of `actor` or
 * `target` goes to the error handlers of the application.
 */
export function stepUpGuard(client: StepUpClient, options: GuardOptions<Request>): ExpressGuard {
  return (operation, route = {}) =>
    async (request, response, next) => {
      try {
        await demandAllowed(client, options, operation, route, request);
      } catch (error) {
        if (error instanceof StepUpError) {
          const { status, headers, body } = refusalOf(error, operation);
          response.status(status).set(headers).send(body);
          report(options, error, request);
        } else {
          next(asError(error));
        }
        return;
      }
      next();
    };
}
