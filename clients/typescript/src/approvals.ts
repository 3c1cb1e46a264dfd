/** Approvals: create or find a challenge, show it, and wait for the person. */

import { randomUUID } from "node:crypto";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";

import { approvalOf, stateOf, type Approved } from "./answers.js";
import type { Endpoint } from "./endpoint.js";
import { NotApprovedError, StateError, StepUpError } from "./errors.js";
import {
  AwaitChallengeRequestSchema,
  ChallengeSchema,
  ChallengeService,
  CreateChallengeRequestSchema,
  type Challenge,
  type CreateChallengeRequest,
} from "./gen/stepup/v1/challenge_service_pb.js";
import { Transport, checkedTimeout, paused, type CallOptions } from "./transport.js";

/** An action to approve. */
export interface Item {
  /** The catalogue id of the action. */
  readonly operation: string;
  /** The object of the action: 1 to 256 bytes. */
  readonly target: string;
  /** Names the target for people: 1 to 200 characters. */
  readonly label: string;
}

/** The options of `approve`. */
export interface ApproveOptions extends CallOptions {
  /**
   * Called once, when the person can answer: shows its `message` and `items`, or the address of its
   * page (`portalUrl`), to the person.
   */
  readonly show?: ((challenge: Challenge) => unknown) | undefined;
  /**
   * An earlier challenge for the same actions: the client waits for it, or returns its approval,
   * instead of asking again. One that ended is replaced.
   */
  readonly challengeId?: string | undefined;
  /** Milliseconds that the person has to answer: 10 minutes if undefined, which is the most. */
  readonly expiresIn?: number | undefined;
  /** Milliseconds for which the approval lasts: 15 minutes if undefined, 60 at most. */
  readonly validFor?: number | undefined;
  /** Milliseconds to wait; until the challenge ends if undefined. */
  readonly timeout?: number | undefined;
}

type ActorInit = MessageInitShape<typeof CreateChallengeRequestSchema>["actor"];

const WAITS_PER_CONNECTION = 90; // a server takes 100 calls on a connection
const PAUSE = 1000; // between two waits for a challenge: a server that stops is soon replaced
const LATER = 10_000; // a wait ends so much later than its challenge
const LONGEST_LIFETIME = 600_000;

/** See `StepUpClient.approve`. */
export class Approvals {
  readonly #transport: Transport;
  readonly #endpoint: Endpoint;
  readonly #timeout: number;
  readonly #waits = new Map<Transport, number>();

  /** `transport` makes all calls but the waits, which last minutes and have connections apart. */
  constructor(transport: Transport, endpoint: Endpoint, timeout: number) {
    this.#transport = transport;
    this.#endpoint = endpoint.apart();
    this.#timeout = timeout;
  }

  /** Closes the connections of waits. */
  close(): void {
    for (const transport of this.#waits.keys()) {
      transport.close();
    }
  }

  async approve(
    actor: NonNullable<ActorInit>,
    items: readonly Item[],
    message: string,
    options: ApproveOptions,
  ): Promise<Approved> {
    const { expiresIn, validFor, timeout } = options;
    if (timeout !== undefined) {
      checkedTimeout(timeout);
    }
    const request = create(CreateChallengeRequestSchema, {
      actor,
      items: items.map(({ operation, target, label }) => ({ operation, target, label })),
      message,
      ...(expiresIn !== undefined && { expiresIn: durationFromMs(expiresIn) }),
      ...(validFor !== undefined && { validFor: durationFromMs(validFor) }),
      requestId: randomUUID(),
    });
    const call = { metadata: options.metadata, signal: options.signal };
    const challenge =
      (await this.#earlier(request, options.challengeId, call)) ??
      challengeOf(await this.#transport.resent(ChallengeService.method.createChallenge, request, call));
    if (stateOf(challenge) === "PENDING") {
      await options.show?.(challenge);
    }
    return await this.#wait(request, challenge, timeout ?? lifetimeOf(challenge), call);
  }

  /** Returns an earlier challenge if it is pending or approved, and has the same items unused. */
  async #earlier(
    request: CreateChallengeRequest,
    challengeId: string | undefined,
    call: CallOptions,
  ): Promise<Challenge | undefined> {
    if (!challengeId) {
      return undefined;
    }
    let challenge;
    try {
      const asked = { actor: request.actor!, challengeId };
      challenge = challengeOf(
        await this.#transport.unary(ChallengeService.method.getChallenge, asked, call),
      );
    } catch (error) {
      if (error instanceof StateError) {
        return undefined; // unknown, or ended over a day ago
      }
      throw error;
    }
    const unused = challenge.items.filter((item) => item.usedAt === undefined);
    const hasAll = request.items.every((wanted) =>
      unused.some((item) => item.operation === wanted.operation && item.target === wanted.target),
    );
    return hasAll && ["PENDING", "APPROVED"].includes(stateOf(challenge)) ? challenge : undefined;
  }

  /** Waits until the challenge is not pending. A wait that is cut begins again. */
  async #wait(
    { actor }: CreateChallengeRequest,
    challenge: Challenge,
    timeout: number,
    call: CallOptions,
  ): Promise<Approved> {
    const endsAt = performance.now() + timeout;
    const request = create(AwaitChallengeRequestSchema, {
      actor: actor!,
      challengeId: challenge.challengeId,
    });
    const transport = this.#beginWait();
    try {
      while (stateOf(challenge) === "PENDING") {
        const left = endsAt - performance.now();
        if (left <= 0) {
          throw new NotApprovedError("PENDING", challenge);
        }
        let pause = PAUSE;
        try {
          const { awaitChallenge } = ChallengeService.method;
          for await (const next of transport.stream(awaitChallenge, request, { ...call, timeout: left })) {
            challenge = challengeOf(next);
          }
        } catch (error) {
          if (!(error instanceof StepUpError) || !error.retryable || call.signal?.aborted) {
            throw error;
          }
          pause = Math.max(pause, error.retryAfter ?? 0);
        }
        if (stateOf(challenge) === "PENDING") {
          await paused(Math.max(0, Math.min(pause, endsAt - performance.now())), call.signal);
        }
      }
    } finally {
      this.#waits.set(transport, (this.#waits.get(transport) ?? 1) - 1);
    }
    return approvalOf(challenge);
  }

  /** Returns a connection that can take another wait. */
  #beginWait(): Transport {
    for (const [transport, waits] of this.#waits) {
      if (waits < WAITS_PER_CONNECTION) {
        this.#waits.set(transport, waits + 1);
        return transport;
      }
    }
    const transport = new Transport(this.#endpoint, this.#timeout, false);
    this.#waits.set(transport, 1);
    return transport;
  }
}

function challengeOf(response: { readonly challenge?: Challenge | undefined }): Challenge {
  // A response without a challenge has the state UNSPECIFIED, which `stateOf` refuses.
  return response.challenge ?? create(ChallengeSchema);
}

/** The milliseconds for which a challenge can be pending, from its creation. */
function lifetimeOf({ createTime, expiresAt }: Challenge): number {
  const span = createTime && expiresAt ? timestampMs(expiresAt) - timestampMs(createTime) : 0;
  return Math.min(Math.max(span, 0), LONGEST_LIFETIME) + LATER;
}
