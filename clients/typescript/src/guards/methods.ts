/** The maps of guards: which route asks for which operation. */

import { writeFileSync } from "node:fs";

/** The operation of each route, such as `POST /hosts/:host/shell`; null for a route without one. */
export type MethodMap = Readonly<Record<string, string | null>>;

const operations = new WeakMap<object, string>();

/** Remembers the operation of a handler, and returns the handler. */
export function markedWith<Handler extends object>(operation: string, handler: Handler): Handler {
  operations.set(handler, operation);
  return handler;
}

/** Returns the operation of the first guard among handlers; null if none is a guard. */
export function operationOf(handlers: readonly unknown[]): string | null {
  const guards = handlers.filter((each) => typeof each === "function");
  return guards.map((each) => operations.get(each)).find((each) => each !== undefined) ?? null;
}

/**
 * Writes a method map to a JSON file, in the order of the names. `stepup coverage` compares such
 * maps with the recorded decisions, and finds operations that no program asks about.
 */
export function writeMethodMap(methods: MethodMap, path: string): void {
  const sorted = Object.fromEntries(Object.entries(methods).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(path, `${JSON.stringify({ methods: sorted }, null, 2)}\n`);
}
