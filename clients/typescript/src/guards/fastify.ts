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

import type { FastifyInstance, FastifyRequest, preHandlerAsyncHookHandler } from "fastify";

import type { StepUpClient } from "../client.js";
import { StepUpError } from "../errors.js";
import { asError, demandAllowed, refusalOf, report, type GuardOptions, type RouteOptions } from "./guard.js";
import { markedWith, operationOf, type MethodMap } from "./methods.js";

export { allowedOf, type GuardOptions, type RouteOptions, type StepUpProblem } from "./guard.js";
export { writeMethodMap, type MethodMap } from "./methods.js";

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
    markedWith(operation, async (request, reply) => {
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
    });
}

/** Returns a map that gets each route which is added to the application from now on. */
export function methodMap(app: FastifyInstance): MethodMap {
  const methods: Record<string, string | null> = {};
  app.addHook("onRoute", ({ method, url, preHandler }) => {
    const names = [method].flat().sort().join(" ");
    methods[`${names} ${url}`] = operationOf([preHandler].flat());
  });
  return methods;
}
