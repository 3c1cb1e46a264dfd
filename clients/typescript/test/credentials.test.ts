import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";

import { ServerCredentials } from "@grpc/grpc-js";
import { CallerCredentials, StepUpClient, UnavailableError, type Token } from "stepup-authz";
import { Decision, DecisionReason } from "stepup-authz/messages";

import { BOB, Fake, OSQUERY, decided, hang } from "./helpers/fake.js";

const ALLOWED = decided({ decision: Decision.ALLOWED, reason: DecisionReason.ELEVATED });
const LOOK_EVERY = 1050;
const directory = mkdtempSync(join(tmpdir(), "ts-credentials-"));
const file = (name: string) => join(directory, name);
after(() => rmSync(directory, { recursive: true }));

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
}

/** Writes NAME.pem and NAME.key: an authority, or a certificate that one has signed. */
function certify(name: string, authority?: string): void {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
  const signer = authority ? ["-CA", `${authority}.pem`, "-CAkey", `${authority}.key`] : [];
  const what = authority ? "subjectAltName=IP:127.0.0.1" : "keyUsage=critical,keyCertSign";
  openssl("req", "-x509", ...key, ...signer, "-out", `${name}.pem`, "-days", "1", "-subj", `/CN=${name}`, "-addext", what);
}

certify("authority");
certify("stranger");
certify("server", "authority");
certify("caller", "authority");
certify("intruder", "stranger");

async function served(demandsCertificate: boolean): Promise<Fake> {
  const pair = { private_key: readFileSync(file("server.key")), cert_chain: readFileSync(file("server.pem")) };
  const authority = readFileSync(file("authority.pem"));
  const fake = await Fake.start(
    { checkStepUp: () => ALLOWED },
    ServerCredentials.createSsl(authority, [pair], demandsCertificate),
  );
  after(() => fake.stop());
  return fake;
}

test("certificates are read again when their files change, and a file in the making changes nothing", async () => {
  const fake = await served(true);
  const [certificate, privateKey] = [file("tls.crt"), file("tls.key")];
  copyFileSync(file("intruder.pem"), certificate);
  copyFileSync(file("intruder.key"), privateKey);
  const credentials = new CallerCredentials({ certificate, privateKey, authorities: file("authority.pem") });
  const stepup = fake.client({ credentials });
  await assert.rejects(stepup.check(BOB, OSQUERY), UnavailableError);

  copyFileSync(file("caller.pem"), file("new.crt"));
  copyFileSync(file("caller.key"), file("new.key"));
  renameSync(file("new.crt"), certificate);
  renameSync(file("new.key"), privateKey);
  await sleep(LOOK_EVERY);
  assert.equal((await stepup.check(BOB, OSQUERY)).kind, "allowed");

  const warnings: string[] = [];
  process.on("warning", ({ message }) => warnings.push(message));
  writeFileSync(certificate, "-----BEGIN CERTIFICATE-----");
  await sleep(LOOK_EVERY);
  assert.equal((await stepup.check(BOB, OSQUERY)).kind, "allowed");
  assert.match(warnings.join(), /credentials of the stepup client stay as they were/);
});

test("a server of another authority gets no call", async () => {
  const fake = await served(false);
  const credentials = new CallerCredentials({ token: "t-1", authorities: file("stranger.pem") });
  await assert.rejects(fake.client({ credentials }).check(BOB, OSQUERY), UnavailableError);
  assert.equal(fake.requests.length, 0);
});

test("each call has the token: a text, a file that is read again, or a function", async () => {
  const fake = await served(false);
  const clientOf = (token: Token) =>
    fake.client({ credentials: new CallerCredentials({ token, authorities: file("authority.pem") }) });
  let calls = 0;
  await clientOf("t-1").check(BOB, OSQUERY);
  const ofFunction = clientOf(async () => `t-${(calls += 2)}`);
  await ofFunction.check(BOB, OSQUERY);
  await ofFunction.check(BOB, OSQUERY);
  writeFileSync(file("token"), "t-5\n");
  const ofFile = clientOf({ file: file("token") });
  await ofFile.check(BOB, OSQUERY);
  writeFileSync(file("token"), "t-token-6\n");
  await sleep(LOOK_EVERY);
  await ofFile.check(BOB, OSQUERY);
  const sent = fake.metadata.map((metadata) => metadata.get("authorization")[0]);
  assert.deepEqual(sent, ["t-1", "t-2", "t-4", "t-5", "t-token-6"].map((token) => `Bearer ${token}`));
});

test("a token that does not come lets no action run, and nobody waits for ever", async () => {
  const fake = await served(false);
  const failing = () => Promise.reject(new Error("no token"));
  const empty = () => "";
  const bad = () => "secr\u00e9t";
  for (const token of [hang, failing, empty, bad]) {
    const credentials = new CallerCredentials({ token, authorities: file("authority.pem") });
    const call = fake.client({ credentials, timeout: 200 }).check(BOB, OSQUERY);
    await assert.rejects(call, (error) => error instanceof UnavailableError && !/secr/.test(inspect(error)));
  }
  assert.equal(fake.requests.length, 0);
});

test("credentials that cannot be used are an error at once, without the content of a file", () => {
  const bad: [object, RegExp][] = [
    [{}, /give a certificate/],
    [{ certificate: file("caller.pem") }, /belong together/],
    [{ certificate: file("caller.pem"), privateKey: file("intruder.key") }, /mismatch/],
    [{ token: { file: file("caller.key") } }, /caller.key: not a token/],
    [{ token: "t-1\n" }, /not a token/],
  ];
  for (const [options, message] of bad) {
    assert.throws(() => new CallerCredentials(options), message);
  }
  const credentials = new CallerCredentials({ token: "t-1" });
  assert.throws(() => new StepUpClient("stepup:50051", { credentials, insecure: true }), /plain text/);
});
