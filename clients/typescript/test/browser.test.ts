import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { after, beforeEach, test } from "node:test";

import { stepUpFetch, type CodeAnswer, type Problem } from "stepup-authz/browser";

const CHALLENGE = 'Bearer error="insufficient_user_authentication", acr_values="urn:stepup:acr:otp"';
const VERIFIED: CodeAnswer = { kind: "verified" };
const REJECTED: CodeAnswer = { kind: "not_verified", outcome: "REJECTED", attemptsRemaining: 4 };
let problem: object;
let headers: Record<string, string>;
let isElevated: boolean;
let elevates: boolean;
let seen: string[];

const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
  }
  seen.push(`${request.url} ${body}`);
  if (request.url === "/step-up") {
    const isRight = JSON.parse(body).code === "123456";
    isElevated ||= isRight && elevates;
    response.end(JSON.stringify(isRight ? VERIFIED : REJECTED));
  } else if (request.url === "/broken") {
    response.writeHead(500).end();
  } else if (isElevated) {
    response.end("done");
  } else {
    response.writeHead(401, headers).end(JSON.stringify(problem));
  }
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
after(() => {
  server.close();
  server.closeAllConnections();
});

beforeEach(() => {
  problem = { type: "urn:stepup:problem:step-up-required", title: "A one-time code is required", challenge: false };
  headers = { "www-authenticate": CHALLENGE };
  isElevated = false;
  elevates = true;
  seen = [];
});

const post = { method: "POST", body: "run" };
const verify = `${base}/step-up`;

test("a request is repeated once, with its body, after a right code", async () => {
  const asked: Problem[] = [];
  const fetch = stepUpFetch({ verify, askCode: (problem) => (asked.push(problem), "123456") });
  const response = await fetch(`${base}/shell`, post);
  assert.equal(await response.text(), "done");
  assert.deepEqual(seen, ["/shell run", '/step-up {"code":"123456"}', "/shell run"]);
  assert.equal(asked[0]?.title, "A one-time code is required");
});

test("a wrong code is asked for again, with what the endpoint said", async () => {
  const codes = ["000000", "123456"];
  const rejections: (CodeAnswer | undefined)[] = [];
  const fetch = stepUpFetch({ verify, askCode: (_, rejected) => (rejections.push(rejected), codes.shift()!) });
  assert.equal((await fetch(`${base}/shell`, post)).status, 200);
  assert.deepEqual(rejections, [undefined, REJECTED]);
});

for (const none of [null, ""]) {
  test(`a person who gives no code (${none}) gets the 401, still readable`, async () => {
    const fetch = stepUpFetch({ verify, askCode: () => none });
    const response = await fetch(`${base}/shell`, post);
    assert.deepEqual([response.status, await response.json()], [401, problem]);
    assert.deepEqual(seen, ["/shell run"]);
  });
}

test("a request is repeated once only, also if it meets a 401 again", async () => {
  elevates = false;
  const fetch = stepUpFetch({ verify, askCode: () => "123456" });
  assert.equal((await fetch(`${base}/shell`, post)).status, 401);
  assert.equal(seen.length, 3);
});

test("requests that meet a 401 at the same time share one prompt", async () => {
  let prompts = 0;
  const askCode = async () => {
    prompts += 1;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return "123456";
  };
  const fetch = stepUpFetch({ verify, askCode });
  const responses = await Promise.all([fetch(`${base}/shell`, post), fetch(`${base}/script`, post)]);
  assert.deepEqual(responses.map(({ status }) => status), [200, 200]);
  assert.equal(prompts, 1);
});

const notOurs: Record<string, () => void> = {
  "of another kind": () => {
    headers = { "www-authenticate": 'Bearer error="invalid_token"' };
  },
  "that only a challenge helps": () => {
    problem = { ...problem, challenge: true };
  },
  "of a person who must enrol": () => {
    problem = { ...problem, type: "urn:stepup:problem:enrollment-required" };
  },
  "without a problem": () => {
    problem = [] as unknown as object;
  },
};
for (const [name, arrange] of Object.entries(notOurs)) {
  test(`a 401 ${name} asks for no code`, async () => {
    arrange();
    const fetch = stepUpFetch({ verify, askCode: () => assert.fail("asked") });
    assert.equal((await fetch(`${base}/shell`, post)).status, 401);
  });
}

test("a function of the page may send the code; its errors are the fetch's, and the next try asks again", async () => {
  const sent: string[] = [];
  const failing = async (code: string) => {
    sent.push(code);
    throw new Error("no network");
  };
  const fetch = stepUpFetch({ verify: failing, askCode: () => "123456" });
  await assert.rejects(fetch(`${base}/shell`, post), /no network/);
  await assert.rejects(fetch(`${base}/shell`, post), /no network/);
  assert.deepEqual(sent, ["123456", "123456"]);
  const broken = stepUpFetch({ verify: `${base}/broken`, askCode: () => "123456" });
  await assert.rejects(broken(`${base}/shell`, post), /answered 500/);
});
