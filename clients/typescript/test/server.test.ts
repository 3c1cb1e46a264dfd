/** The client, the guards and the example against a real server. The last test kills the server. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { NotAllowedError, RequestError, StateError, StepUpClient, UnavailableError } from "stepup-authz";
import { stepUpFetch } from "stepup-authz/browser";

import { Program, code, enablePolicy, enrol, person, soonAfterAStep, startServer } from "./helpers/server.js";

const OSQUERY = "response.run_osquery";
const SHELL = "response.start_remote_shell";
const PACKAGE = process.cwd();
let server: Awaited<ReturnType<typeof startServer>>;
let stepup: StepUpClient;

before(async () => {
  server = await startServer();
  stepup = new StepUpClient(server.program.address);
  await enablePolicy(stepup);
});
after(async () => {
  stepup.close();
  await server.stop();
});

test("a person enrols, gives a code in another session, and signs out", async () => {
  const monday = person("bob");
  assert.equal((await stepup.check(monday, OSQUERY)).kind, "enrollment_required");
  const secret = await enrol(stepup, monday);
  assert.equal((await stepup.require(monday, OSQUERY)).reason, "ELEVATED");

  const tuesday = person("bob", "bob-tuesday");
  const required = await stepup.check(tuesday, OSQUERY);
  assert.ok(required.kind === "step_up_required");
  assert.deepEqual([required.reason, required.detail], ["NOT_ELEVATED", "OTHER_SESSION"]);
  const now = code(secret);
  const wrong = await stepup.verify(tuesday, now === "000000" ? "000001" : "000000");
  assert.ok(wrong.kind === "not_verified");
  assert.equal(wrong.outcome, "REJECTED");
  assert.equal((await stepup.verify(tuesday, `${now.slice(0, 3)} ${now.slice(3)}`)).kind, "verified");
  assert.equal((await stepup.require(tuesday, OSQUERY)).reason, "ELEVATED");

  await stepup.signOut(tuesday);
  await assert.rejects(stepup.require(tuesday, OSQUERY), NotAllowedError);
});

test("an action that timed out runs again by its receipt, without an elevation", async () => {
  const actor = person("carol");
  await enrol(stepup, actor);
  const action = stepup.action(actor, OSQUERY, { target: "host-7" });
  await assert.rejects(action.run(() => Promise.reject(new DOMException("late", "TimeoutError"))));
  await stepup.signOut(actor);
  assert.equal(await action.run(({ reason }) => reason), "EXEMPT_TIMED_OUT_RETRY");
  await assert.rejects(action.run(() => assert.fail("it ran")), NotAllowedError);
});

test("a person approves two actions by one code, and each runs once", async () => {
  const actor = person("dora");
  const secret = await enrol(stepup, actor);
  const first = await stepup.check(actor, SHELL, { target: "host-1" });
  assert.ok(first.kind === "step_up_required" && first.needsChallenge);
  const items = ["host-1", "host-2"].map((target) => ({ operation: SHELL, target, label: `Server ${target}` }));
  const { challengeId, challenge } = await stepup.approve(actor, items, "Incident 7", {
    show: async ({ challengeId }) => {
      const other = person("dora", "dora-phone");
      await stepup.challenges.answer({ actor: other, challengeId, code: code(secret) });
    },
  });
  assert.deepEqual(challenge.items.map(({ label }) => label), ["Server host-1", "Server host-2"]);
  const checks = ["host-1", "host-2", "host-3"].map((target) => ({ operation: SHELL, target }));
  const answers = await stepup.checkMany(actor, checks, { challengeId });
  assert.deepEqual(answers.map(({ kind }) => kind), ["allowed", "allowed", "step_up_required"]);
  const again = await stepup.check(actor, SHELL, { target: "host-1", challengeId });
  assert.deepEqual([again.kind, again.challengeRejection], ["step_up_required", "ITEM_USED"]);
});

test("errors of the server have their class, reason and field", async () => {
  const unknown = stepup.check(person("bob"), "response.unknown");
  await assert.rejects(unknown, (error) => error instanceof RequestError && error.reason === "UNKNOWN_OPERATION");
  const nobody = stepup.check({ ...person("bob"), userId: "" }, OSQUERY);
  await assert.rejects(nobody, (error) => error instanceof RequestError && error.field === "actor.user_id");
  const none = stepup.enrollment.confirm({ actor: person("nobody"), code: "123456" });
  await assert.rejects(none, (error) => error instanceof StateError && error.reason === "ENROLLMENT_STATE");
});

test("events of the tenant are streamed", async () => {
  const sequences = [];
  for await (const { event } of stepup.audit.export({ tenantId: "acme" })) {
    sequences.push(event?.sequence);
  }
  assert.ok(sequences.length > 3);
});

test("the example runs from the package of npm pack: sign-in, wizard, code, action, sign-out", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ts-example-"));
  const example = await startExample(directory);
  try {
    const url = example.address;
    const headers = { "content-type": "application/json" };
    const post = (send: typeof fetch, path: string, body: object = {}) =>
      send(url + path, { method: "POST", headers, body: JSON.stringify(body) });
    /** Signs in; returns the `fetch` of a browser that keeps the cookie. */
    const signIn = async (): Promise<typeof fetch> => {
      const response = await post(fetch, "/sign-in", { user: "emil", password: "correct horse" });
      const cookie = response.headers.get("set-cookie")!.split(";")[0]!;
      return (input, init) => {
        const request = new Request(input, init);
        request.headers.set("cookie", cookie);
        return fetch(request);
      };
    };

    const monday = await signIn();
    const refused = await post(monday, "/hosts/host-7/osquery");
    const problem = (await refused.json()) as { type: string; operation: string };
    assert.deepEqual([refused.status, problem.operation], [401, "account.sign_in"]);
    assert.equal(problem.type, "urn:stepup:problem:enrollment-required");
    const { secret } = (await (await post(monday, "/wizard/begin")).json()) as { secret: string };
    await soonAfterAStep();
    const confirmed = await post(monday, "/wizard/confirm", { code: code(secret, -1) });
    assert.match(((await confirmed.json()) as { resetCode: string }).resetCode, /^[A-Z2-7-]{34}$/);
    assert.equal((await post(monday, "/wizard/complete")).status, 204);
    assert.equal((await post(monday, "/hosts/host-7/osquery")).status, 200);
    assert.equal((await post(monday, "/sign-out")).status, 204);
    assert.equal((await post(monday, "/hosts/host-7/osquery")).status, 403);

    const tuesday = stepUpFetch({ verify: `${url}/step-up`, askCode: () => code(secret), fetch: await signIn() });
    const response = await post(tuesday, "/hosts/host-7/osquery");
    assert.deepEqual(await response.json(), { host: "host-7", reason: "ELEVATED" });
    assert.equal((await fetch(`${url}/step-up.js`)).status, 200);
    assert.match(await (await fetch(url)).text(), /stepUpFetch/);
  } finally {
    await example.stop();
    rmSync(directory, { recursive: true });
  }
});

/** Starts examples/express on the package as npm packs it. */
async function startExample(directory: string): Promise<Program> {
  cpSync(join(PACKAGE, "../../examples/express"), directory, { recursive: true });
  const modules = join(directory, "node_modules");
  mkdirSync(join(modules, "stepup-authz"), { recursive: true });
  for (const name of readdirSync(join(PACKAGE, "node_modules"))) {
    symlinkSync(join(PACKAGE, "node_modules", name), join(modules, name));
  }
  const pack = ["pack", "--silent", "--ignore-scripts", "--pack-destination", directory];
  const file = execFileSync("npm", pack, { encoding: "utf8" }).trim();
  execFileSync("tar", ["-xzf", join(directory, file), "-C", join(modules, "stepup-authz"), "--strip-components=1"]);
  const env = { ...process.env, STEPUP_CLIENT_TARGET: server.program.address, PORT: "0" };
  return await Program.start(process.execPath, ["server.mjs"], env, directory);
}

test("a frozen server, and then a killed one, let no action run", async (t) => {
  const actor = person("frida");
  await enrol(stepup, actor);
  await stepup.require(actor, OSQUERY);
  const run = t.mock.fn();
  server.program.signal("SIGSTOP");
  await assert.rejects(stepup.action(actor, OSQUERY, { timeout: 500 }).run(run), UnavailableError);
  await assert.rejects(stepup.verify(actor, "123456", { timeout: 500 }), UnavailableError);
  server.program.signal("SIGCONT");
  await server.program.stop();
  await assert.rejects(stepup.action(actor, OSQUERY, { timeout: 500 }).run(run), UnavailableError);
  assert.equal(run.mock.callCount(), 0);
});
