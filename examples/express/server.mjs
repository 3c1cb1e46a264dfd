// A console backend on Express: sign-in, a guarded action, the code, the wizard, sign-out.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";

import express from "express";
import { StepUpClient, StepUpError } from "stepup-authz";
import { allowedOf, stepUpGuard } from "stepup-authz/express";

const stepup = StepUpClient.fromEnv(); // STEPUP_CLIENT_TARGET and others
const sessions = new Map(); // by the id in the cookie
const app = express();
app.use(express.json());

function sessionOf(request) {
  const id = /(?:^|; )session=([\w-]+)/.exec(request.headers.cookie ?? "")?.[1];
  const session = sessions.get(id);
  if (!session) throw Object.assign(new Error("sign in first"), { status: 403 });
  return session;
}
const actorOf = (request) => ({
  ...sessionOf(request).actor,
  // The approval of a challenge: stepup checks that it is for this person, session and action.
  ...(request.headers["stepup-challenge"] && { challengeId: request.headers["stepup-challenge"] }),
});
const guard = stepUpGuard(stepup, { actor: actorOf, onError: (error) => console.error(error) });

app.post("/sign-in", (request, response) => {
  const { user, password } = request.body;
  if (password !== "correct horse") return response.sendStatus(403); // your own sign-in
  const actor = { tenantId: process.env.TENANT ?? "acme", userId: user, sessionId: randomUUID() };
  sessions.set(actor.sessionId, { actor, isSignedIn: false });
  response.cookie("session", actor.sessionId, { httpOnly: true, sameSite: "strict" });
  return response.sendStatus(204);
});

// Until the sign-in was allowed once, every action asks for it.
const signIn = guard("account.sign_in");
app.use("/hosts", (request, response, next) => {
  const session = sessionOf(request);
  if (session.isSignedIn) return next();
  return signIn(request, response, (error) => {
    session.isSignedIn = !error;
    next(error);
  });
});

app.post(
  "/hosts/:host/osquery",
  guard("response.run_osquery", { target: (request) => request.params.host }),
  (request, response) => {
    const { reason } = allowedOf(request);
    response.json({ host: request.params.host, reason }); // the action
  },
);

// The prompt: `stepUpFetch` in index.html posts the code.
app.post("/step-up", async (request, response) => {
  response.json(await stepup.verify(sessionOf(request).actor, String(request.body.code)));
});

// The wizard: its three screens.
app.post("/wizard/begin", async (request, response) => {
  const { qrSvg, secret } = await stepup.enrollment.begin({ actor: sessionOf(request).actor });
  response.json({ qrSvg, secret });
});
app.post("/wizard/confirm", async (request, response) => {
  const { actor } = sessionOf(request);
  const { resetCode } = await stepup.enrollment.confirm({ actor, code: request.body.code });
  response.json({ resetCode }); // empty: the code was not right
});
app.post("/wizard/complete", async (request, response) => {
  const { actor } = sessionOf(request);
  await stepup.enrollment.complete({ actor, resetCodeStored: true });
  response.sendStatus(204);
});

app.post("/sign-out", async (request, response) => {
  const { actor } = sessionOf(request);
  sessions.delete(actor.sessionId);
  await stepup.signOut(actor);
  response.sendStatus(204);
});

app.get("/", (_, response) => response.sendFile("index.html", { root: import.meta.dirname }));
app.get("/step-up.js", (_, response) =>
  response.sendFile(fileURLToPath(import.meta.resolve("stepup-authz/browser"))),
);

app.use((error, _request, response, _next) => {
  const status = error instanceof StepUpError ? 503 : (error.status ?? 500);
  response.status(status).json({ title: status === 503 ? "try again" : error.message });
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
