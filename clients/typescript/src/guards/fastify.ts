/**
 * A guard for Fastify.
 *
 *     const guard = stepUpGuard(stepup, { actor: (request) => request.session.actor });
 *     app.post(
 *       "/hosts/:host/shell",
 *       { preHandler: guard("response.start_remote_shell", { target: (request) => request.params.host }) },
 *       startShell,
 *     );
 */

import type { FastifyRequest, preHandlerAsyncHookHandler } from "fastify";

import type { StepUpClient } from "../client.js";
import { StepUpError } from "../errors.js";
import { asError, demandAllowed, refusalOf, report, type GuardOptions, type RouteOptions } from "./guard.js";

export { allowedOf, type GuardOptions, type RouteOptions, type StepUpProblem } from "./guard.js";

/** Returns a hook that lets the handler of a route run only after the answer `allowed`. */
export type FastifyGuard = (
  operation: string,
  options?: RouteOptions<FastifyRequest>,
) => preHandlerAsyncHookHandler;

/**
 * Returns a maker of `preHandler` hooks. A request without permission gets 401 or 503; an error of
 * `actor` or `target` goes to the error handler of the application.
 */
export function stepUpGuard(client: StepUpClient, options: GuardOptions<FastifyRequest>): FastifyGuard {
  return (operation, route = {}) =>
    async (request, reply) => {
      try {
        await demandAllowed(client, options, operation, route, request);
      } catch (error) {
        if (!(error instanceof StepUpError)) {
          throw asError(error);
        }
        const { status, headers, body } = refusalOf(error, operation);
        report(options, error, request);
        return reply.code(status).headers(headers).send(body);
      }
      return undefined;
    };
}
