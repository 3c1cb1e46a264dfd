/**
 * `fetch` for pages: it meets the 401 of a guard, asks the person for a code, and repeats the
 * request once. It depends on nothing; a bundler is not needed.
 *
 *     const fetch = stepUpFetch({ verify: "/step-up", askCode: (problem) => dialog.ask(problem.title) });
 *     await fetch("/hosts/7/shell", { method: "POST" });
 */

/** The reason of a guard for a refusal: the body of its 401 (RFC 9457). */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly operation: string;
  readonly decision_id?: string;
  readonly challenge?: boolean;
  readonly max_age?: number;
}

/** The answer of the page's own endpoint: the JSON of `await stepup.verify(actor, code)`. */
export interface CodeAnswer {
  readonly kind: "verified" | "not_verified";
  /** Such as `REJECTED` or `THROTTLED`; see `NotVerified` of the package. */
  readonly outcome?: string;
  readonly attemptsRemaining?: number;
  /** Milliseconds, as in `NotVerified`. */
  readonly retryAfter?: number;
  /** Milliseconds, as in `NotVerified`. */
  readonly nextCodeAfter?: number;
}

/** The options of `stepUpFetch`. */
export interface StepUpFetchOptions {
  /**
   * Asks the person for a code. Returns null or "" if the person gives none: the 401 is the answer of
   * the request then. It is called again, with `rejected`, after a code that was not right.
   */
  readonly askCode: (problem: Problem, rejected?: CodeAnswer) => Promise<string | null> | string | null;
  /**
   * The page's own endpoint, which gets `POST {"code": "..."}` and answers as `CodeAnswer`; or a
   * function that sends the code, for pages with a CSRF token.
   */
  readonly verify: string | ((code: string) => Promise<CodeAnswer>);
  /** The `fetch` to use. */
  readonly fetch?: typeof globalThis.fetch;
}

/**
 * Returns a `fetch` that repeats a request once after the person has given a code.
 *
 * Requests that meet a 401 at the same time share one prompt. A request that a code cannot help (the
 * person must enrol, or approve a challenge) gets its 401. An error of
 * `askCode` or `verify` rejects the promise of the `fetch`.
 */
export function stepUpFetch(options: StepUpFetchOptions): typeof globalThis.fetch {
  const send = options.fetch ?? ((...request) => globalThis.fetch(...request));
  let prompt: Promise<boolean> | undefined;
  return async (input, init) => {
    const request = new Request(input, init);
    const again = request.clone(); // the first request uses up its body
    const response = await send(request);
    const problem = await problemOf(response);
    if (problem === undefined) {
      return response;
    }
    prompt ??= elevate(options, send, problem).finally(() => {
      prompt = undefined;
    });
    return (await prompt) ? await send(again) : response;
  };
}

/** Asks for codes until a code is right. Returns whether a code was right. */
async function elevate(
  { askCode, verify }: StepUpFetchOptions,
  send: typeof globalThis.fetch,
  problem: Problem,
): Promise<boolean> {
  let rejected: CodeAnswer | undefined;
  for (;;) {
    const code = await askCode(problem, rejected);
    if (!code) {
      return false;
    }
    const answer = await (typeof verify === "string" ? post(send, verify, code) : verify(code));
    if (answer.kind === "verified") {
      return true;
    }
    rejected = answer;
  }
}

async function post(send: typeof globalThis.fetch, url: string, code: string): Promise<CodeAnswer> {
  const response = await send(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code }),
    credentials: "same-origin",
  });
  if (!response.ok) {
    throw new Error(`${url} answered ${response.status}`);
  }
  return (await response.json()) as CodeAnswer;
}

/** Returns the problem of a 401 that a code can solve. The response stays readable. */
async function problemOf(response: Response): Promise<Problem | undefined> {
  const challenge = response.headers.get("www-authenticate") ?? "";
  if (response.status !== 401 || !challenge.includes('error="insufficient_user_authentication"')) {
    return undefined;
  }
  try {
    const problem = (await response.clone().json()) as Problem;
    const canHelp = problem.type === "urn:stepup:problem:step-up-required" && !problem.challenge;
    return canHelp ? problem : undefined;
  } catch {
    return undefined; // the 401 is of somebody else
  }
}
