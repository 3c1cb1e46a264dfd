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

import type { Application, Request, RequestHandler } from "express";

import type { StepUpClient } from "../client.js";
import { StepUpError } from "../errors.js";
import { asError, demandAllowed, refusalOf, report, type GuardOptions, type RouteOptions } from "./guard.js";
import { markedWith, operationOf, type MethodMap } from "./methods.js";

export { allowedOf, type GuardOptions, type RouteOptions, type StepUpProblem } from "./guard.js";
export { writeMethodMap, type MethodMap } from "./methods.js";

/** Returns a handler that lets the next one run only after the answer `allowed`. */
export type ExpressGuard = (operation: string, options?: RouteOptions<Request>) => RequestHandler;

/**
 * Returns a maker of handlers. A request without permission gets 401 or 503; an error of `actor` or
 * `target` goes to the error handlers of the application.
 */
export function stepUpGuard(client: StepUpClient, options: GuardOptions<Request>): ExpressGuard {
  return (operation, route = {}) =>
    markedWith(operation, async (request, response, next) => {
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
    });
}

/** What Express keeps of a path: a route, or a router with further ones. */
interface Layer {
  readonly rawPath?: string; // of Express 5; routers of Express 4 have none
  readonly route?: {
    readonly path: string;
    readonly methods: Readonly<Record<string, boolean>>;
    readonly stack: readonly { readonly handle: unknown }[];
  };
  readonly handle: { readonly stack?: readonly Layer[] };
}

/** Returns the operation of each route of an application, by the guards of the route itself. */
export function methodMap(app: Application): MethodMap {
  const { router, _router } = app as { router?: unknown; _router?: unknown };
  const { stack } = (_router ?? router) as { readonly stack: readonly Layer[] };
  // Of two routes with the same name Express runs the first.
  return Object.fromEntries(routesOf(stack, "").reverse());
}

function routesOf(layers: readonly Layer[], prefix: string): [string, string | null][] {
  return layers.flatMap(({ route, handle, rawPath = "" }) => {
    if (route === undefined) {
      return routesOf(handle.stack ?? [], prefix + rawPath);
    }
    const methods = Object.keys(route.methods).sort().join(" ").toUpperCase();
    const operation = operationOf(route.stack.map((each) => each.handle));
    return [[`${methods} ${prefix}${route.path}`, operation]];
  });
}
