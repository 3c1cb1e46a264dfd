import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";

import { status } from "@grpc/grpc-js";
import express from "express";
import fastify from "fastify";
import { StepUpClient, type Actor } from "stepup-authz";
import { allowedOf, methodMap, stepUpGuard as expressGuard, writeMethodMap } from "stepup-authz/express";
import { methodMap as fastifyMethodMap, stepUpGuard as fastifyGuard } from "stepup-authz/fastify";
import { Decision, DecisionReason, NotElevatedDetail } from "stepup-authz/messages";

import { BOB, Fake, decided, failure, hang, type Script } from "./helpers/fake.js";

const SHELL = "response.start_remote_shell";
const ALLOWED = decided({ decision: Decision.ALLOWED, reason: DecisionReason.ELEVATED, receipt: "r-1" });
const REQUIRED = decided({
  decision: Decision.STEP_UP_REQUIRED,
  reason: DecisionReason.NOT_ELEVATED,
  requirement: { maxAge: { seconds: 90n } },
  detail: NotElevatedDetail.EXPIRED,
});
const stops: (() => unknown)[] = [];
after(() => Promise.all(stops.map((stop) => stop())));

interface Guarded {
  readonly fake: Fake;
  readonly url: string;
  /** The receipts of the actions that ran. */
  readonly ran: string[];
  readonly errors: unknown[];
}
type ActorOf = (request: object) => Actor | Promise<Actor>;
const FRAMEWORKS: Record<string, (check: Script, actor?: ActorOf) => Promise<Guarded>> = {
  Express: async (checkStepUp, actor = () => BOB) => {
    const { fake, ran, errors, onError } = await stage(checkStepUp);
    const guard = expressGuard(fake.client({ timeout: 3000 }), { actor, onError });
    const app = express();
    app.set("env", "test"); // which keeps errors off the console
    const target = ({ params }: express.Request) => String(params["host"]);
    app.post("/hosts/:host/shell", guard(SHELL, { target }), (request, response) => {
      const count = ran.push("without an answer");
      ran[count - 1] = allowedOf(request).receipt;
      response.json({ ok: true });
    });
    const server = app.listen(0, "127.0.0.1");
    await once(server, "listening");
    stops.push(() => server.close());
    return { fake, ran, errors, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hosts/host-7/shell` };
  },
  Fastify: async (checkStepUp, actor = () => BOB) => {
    const { fake, ran, errors, onError } = await stage(checkStepUp);
    const guard = fastifyGuard(fake.client({ timeout: 3000 }), { actor, onError });
    const app = fastify();
    const target = ({ params }: { params: unknown }) => (params as { host: string }).host;
    app.post("/hosts/:host/shell", { preHandler: guard(SHELL, { target }) }, async (request) => {
      const count = ran.push("without an answer");
      ran[count - 1] = allowedOf(request).receipt;
      return { ok: true };
    });
    stops.push(() => app.close());
    return { fake, ran, errors, url: `${await app.listen({ host: "127.0.0.1", port: 0 })}/hosts/host-7/shell` };
  },
};

async function stage(checkStepUp: Script) {
  const fake = await Fake.start({ checkStepUp });
  stops.push(() => fake.stop());
  const errors: unknown[] = [];
  return { fake, ran: [] as string[], errors, onError: (error: unknown) => errors.push(error) };
}

for (const [name, guarded] of Object.entries(FRAMEWORKS)) {
  test(`${name}: an allowed request runs, with its operation, target and receipt`, async () => {
    const { fake, url, ran } = await guarded(() => ALLOWED);
    const response = await fetch(url, { method: "POST", headers: { "x-request-id": "of-the-browser" } });
    assert.equal(response.status, 200);
    assert.deepEqual(ran, ["r-1"]);
    const { operation, target, actor, requestId } = fake.requests[0];
    assert.deepEqual([operation, target, actor.userId], [SHELL, "host-7", "bob"]);
    assert.notEqual(requestId, "of-the-browser");
  });

  test(`${name}: a required code is a 401 of RFC 9470 with a problem of RFC 9457`, async () => {
    const { url, ran } = await guarded(() => REQUIRED);
    const response = await fetch(url, { method: "POST" });
    assert.equal(response.status, 401);
    assert.equal(
      response.headers.get("www-authenticate"),
      'Bearer error="insufficient_user_authentication", error_description="A one-time code is required",' +
        ' acr_values="urn:stepup:acr:otp", max_age="90"',
    );
    assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
    assert.equal(response.headers.get("cache-control"), "no-store");
    assert.deepEqual(await response.json(), {
      type: "urn:stepup:problem:step-up-required",
      title: "A one-time code is required",
      status: 401,
      operation: SHELL,
      decision_id: REQUIRED.decisionId,
      rule: "NOT_ELEVATED",
      challenge: false,
      max_age: 90,
      cause: "EXPIRED",
    });
    assert.deepEqual(ran, []);
  });

  test(`${name}: a challenge or an enrollment that is required is a 401 without max_age`, async () => {
    const requirement = { challenge: true };
    const every = decided({ decision: Decision.STEP_UP_REQUIRED, reason: DecisionReason.EVERY_TIME, requirement });
    const enroll = decided({ decision: Decision.ENROLLMENT_REQUIRED, reason: DecisionReason.NOT_ENROLLED });
    const answers = [every, enroll];
    const { url, ran } = await guarded(() => answers.shift());
    const responses = [await fetch(url, { method: "POST" }), await fetch(url, { method: "POST" })];
    const problems = (await Promise.all(responses.map((response) => response.json()))) as any[];
    assert.deepEqual(problems.map(({ type, challenge }) => [type, challenge]), [
      ["urn:stepup:problem:step-up-required", true],
      ["urn:stepup:problem:enrollment-required", false],
    ]);
    for (const response of responses) {
      assert.equal(response.status, 401);
      assert.doesNotMatch(response.headers.get("www-authenticate") ?? "", /max_age/);
    }
    assert.deepEqual(ran, []);
  });

  const overloaded = () => {
    throw failure(status.RESOURCE_EXHAUSTED, { reason: "OVERLOADED", retrySeconds: 2 });
  };
  const denied = () => {
    throw failure(status.PERMISSION_DENIED, { reason: "CALLER_NOT_PERMITTED" });
  };
  for (const [why, script] of Object.entries({ hang, overloaded, denied, unknown: () => ({}) })) {
    test(`${name}: no decision (${why}) is a 503, and the program hears of the cause`, async () => {
      const { url, ran, errors } = await guarded(script);
      const response = await fetch(url, { method: "POST" });
      assert.equal(response.status, 503);
      assert.equal(response.headers.get("retry-after"), why === "overloaded" ? "2" : null);
      assert.equal(((await response.json()) as any).type, "urn:stepup:problem:no-decision");
      assert.deepEqual(ran, []);
      assert.equal(errors.length, 1);
    });
  }

  const nobody = undefined as unknown as Actor;
  const actors: Record<string, ActorOf> = {
    "throws an error": () => {
      throw new Error("no session");
    },
    "rejects with nothing": () => Promise.reject(undefined),
    "throws the name of a way past the route": () => {
      throw "route";
    },
    "returns nobody": () => nobody,
  };
  for (const [what, actor] of Object.entries(actors)) {
    test(`${name}: no action runs if the actor function ${what}`, async () => {
      const { url, ran, fake } = await guarded(() => ALLOWED, actor);
      const response = await fetch(url, { method: "POST" });
      assert.equal(response.status, 500);
      assert.deepEqual([ran, fake.requests], [[], []]);
    });
  }
}

test("a method map has each route of Express with its operation, also in routers", () => {
  const guard = expressGuard(new StepUpClient("localhost:1"), { actor: () => BOB });
  const app = express();
  const hosts = express.Router();
  const done = () => {};
  hosts.post("/:host/shell", guard(SHELL), done);
  app.use("/hosts", hosts);
  app.get("/", done);
  app.get("/", guard(SHELL), done); // Express never runs the second of two equal routes
  assert.deepEqual(methodMap(app), { "POST /hosts/:host/shell": SHELL, "GET /": null });
});

test("a method map has each route of Fastify with its operation, and can be written", async () => {
  const guard = fastifyGuard(new StepUpClient("localhost:1"), { actor: () => BOB });
  const app = fastify();
  const methods = fastifyMethodMap(app);
  app.post("/hosts/:host/shell", { preHandler: [async () => {}, guard(SHELL)] }, async () => {});
  app.delete("/", async () => {});
  await app.ready();
  const file = join(mkdtempSync(join(tmpdir(), "ts-methods-")), "methods.json");
  stops.push(() => rmSync(dirname(file), { recursive: true }));
  writeMethodMap(methods, file);
  const written = '{\n  "methods": {\n    "DELETE /": null,\n    "POST /hosts/:host/shell": "' + SHELL + '"\n  }\n}\n';
  assert.equal(readFileSync(file, "utf8"), written);
});

test("without a guard no request has an answer", () => {
  assert.throws(() => allowedOf({}), /no guard has allowed/);
});
