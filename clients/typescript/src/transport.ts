/** Calls over one channel: deadlines, metadata, errors, resends, and credentials that change. */

import { setTimeout as sleep } from "node:timers/promises";

import { ScalarType, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethod,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Client, Metadata, type ClientReadableStream, type ServiceError } from "@grpc/grpc-js";

import type { Endpoint } from "./endpoint.js";
import { AnswerError, RequestError, StepUpError, UnavailableError, errorOf } from "./errors.js";

/** What every call takes. */
export interface CallOptions {
  /** Milliseconds for the call, with all its resends. Undefined means the time of the client. */
  readonly timeout?: number | undefined;
  /** Metadata, such as `{ "stepup-portal-session": sessionId }`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Ends the call early, with an `UnavailableError`. */
  readonly signal?: AbortSignal | undefined;
}

const STREAM_TIMEOUT = 660_000; // a wait for a challenge lasts 10 minutes
const LOOK_EVERY = 1000;
const RESEND_FOR = 50_000; // the same request id is certainly the same request to the server so long
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 1000;
const SHORTEST_ATTEMPT = 10;
const LONGEST_TIMEOUT = 86_400_000;

/** Makes calls. Every call has a deadline, and every failure is a `StepUpError`. */
export class Transport {
  readonly #endpoint: Endpoint;
  readonly #timeout: number;
  readonly #waitForReady: boolean;
  #channel: Client | undefined;
  #lookAt = 0;
  #isClosed = false;

  /** `timeout`: milliseconds for a call that names no other time. */
  constructor(endpoint: Endpoint, timeout: number, waitForReady: boolean) {
    this.#endpoint = endpoint;
    this.#timeout = checkedTimeout(timeout);
    this.#waitForReady = waitForReady;
  }

  /** Makes a call; grpc-js resends it by the published retry policy. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const deadline = Date.now() + checkedTimeout(options.timeout ?? this.#timeout);
    const bytes = encoded(method.input, request);
    const metadata = await this.#metadata(options, deadline);
    const channel = this.#open();
    const response = await new Promise<Uint8Array | undefined>((resolve, reject) => {
      const call = channel.makeUnaryRequest(
        pathOf(method),
        sameBytes,
        sameBytes,
        bytes,
        metadata,
        { deadline },
        (error, received) => {
          options.signal?.removeEventListener("abort", cancel);
          if (error) {
            reject(errorOf(error));
          } else {
            resolve(received);
          }
        },
      );
      const cancel = () => call.cancel();
      onAbort(options.signal, cancel);
    });
    return decoded(method.output, response);
  }

  /**
   * Makes a call whose request has a request id, and resends it until its deadline. An attempt takes
   * a third of the time, so that a lost answer leaves time for another attempt.
   */
  async resent<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const time = checkedTimeout(options.timeout ?? this.#timeout);
    const begunAt = performance.now();
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      const left = begunAt + time - performance.now();
      const timeout = Math.max(Math.min(left, time / 3), SHORTEST_ATTEMPT);
      try {
        return await this.unary(method, request, { ...options, timeout });
      } catch (error) {
        if (!(error instanceof StepUpError) || !error.retryable || options.signal?.aborted) {
          throw error;
        }
        pause = Math.max(pause, error.retryAfter ?? 0);
        if (performance.now() + pause > begunAt + Math.min(time, RESEND_FOR)) {
          throw error;
        }
      }
      await paused(pause, options.signal);
    }
  }

  /** Makes a call with many responses. It lasts 11 minutes unless another time is given. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const deadline = Date.now() + checkedTimeout(options.timeout ?? STREAM_TIMEOUT);
    const bytes = encoded(method.input, request);
    const metadata = await this.#metadata(options, deadline);
    const call: ClientReadableStream<Uint8Array> = this.#open().makeServerStreamRequest(
      pathOf(method),
      sameBytes,
      sameBytes,
      bytes,
      metadata,
      { deadline },
    );
    const cancel = () => call.cancel();
    onAbort(options.signal, cancel);
    try {
      for await (const response of call) {
        yield decoded(method.output, response as Uint8Array);
      }
    } catch (error) {
      throw error instanceof StepUpError ? error : errorOf(error as ServiceError);
    } finally {
      options.signal?.removeEventListener("abort", cancel);
      call.cancel(); // a program may stop reading before the end
    }
  }

  /** Closes the channel. Calls in flight still end. */
  close(): void {
    this.#isClosed = true;
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** Looks at the files of the credentials. If they have changed, the next call opens a channel. */
  #renew(): void {
    if (performance.now() >= this.#lookAt) {
      this.#lookAt = performance.now() + LOOK_EVERY;
      if (this.#endpoint.renew()) {
        this.#channel?.close(); // calls in flight continue on it
        this.#channel = undefined;
      }
    }
  }

  #open(): Client {
    if (this.#isClosed) {
      throw new UnavailableError("this client is closed");
    }
    this.#channel ??= new Client(
      this.#endpoint.target,
      this.#endpoint.channelCredentials(),
      this.#endpoint.channelOptions(),
    );
    return this.#channel;
  }

  async #metadata(options: CallOptions, deadline: number): Promise<Metadata> {
    if (options.signal?.aborted) {
      throw new UnavailableError("the program has aborted the call", { cause: options.signal.reason });
    }
    this.#renew();
    const token = await before(deadline, this.#endpoint.token());
    const metadata = new Metadata({ waitForReady: this.#waitForReady });
    for (const [name, value] of Object.entries(options.metadata ?? {})) {
      try {
        metadata.set(name, value);
      } catch {
        // The error of grpc-js has the value, which may be a secret.
        throw new RequestError(`metadata ${JSON.stringify(name)} cannot be sent: its name or value is bad`);
      }
    }
    if (token) {
      metadata.set("authorization", `Bearer ${token}`);
    }
    return metadata;
  }
}

/** Returns the milliseconds that a call may take. Throws an `Error`: no call waits for ever. */
export function checkedTimeout(milliseconds: number): number {
  if (!(milliseconds > 0 && milliseconds <= LONGEST_TIMEOUT)) {
    throw new RangeError(`a timeout is over 0 and at most ${LONGEST_TIMEOUT} milliseconds`);
  }
  return milliseconds;
}

/** Waits. Throws an `UnavailableError` if the signal is aborted. */
export async function paused(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal && { signal });
  } catch (error) {
    throw new UnavailableError("the program has aborted the call", { cause: error });
  }
}

function onAbort(signal: AbortSignal | undefined, cancel: () => void): void {
  signal?.addEventListener("abort", cancel);
  if (signal?.aborted) {
    cancel();
  }
}

async function before(deadline: number, token: Promise<string>): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new UnavailableError("there was no token before the deadline", {
      code: "DEADLINE_EXCEEDED",
      retryable: true,
    });
    timer = setTimeout(() => reject(error), Math.max(deadline - Date.now(), 0));
  });
  try {
    return await Promise.race([token, late]);
  } catch (error) {
    if (error instanceof StepUpError) {
      throw error;
    }
    throw new UnavailableError("there is no token for the call", { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function encoded<I extends DescMessage>(schema: I, request: MessageInitShape<I>): Uint8Array {
  try {
    const message = create(schema, request);
    checkTexts(schema, message);
    return toBinary(schema, message);
  } catch (error) {
    throw new RequestError(`the request is not a ${schema.name}: ${String(error)}`, { cause: error });
  }
}

/** Encoding writes any value as text: two objects would be the same person, "[object Object]". */
function checkTexts(schema: DescMessage, message: object): void {
  for (const field of schema.fields) {
    const value = (message as Record<string, unknown>)[field.localName];
    for (const each of Array.isArray(value) ? value : [value]) {
      if (field.scalar === ScalarType.STRING && typeof each !== "string") {
        throw new TypeError(`${field.name} is not a string`);
      }
      if (field.message && each) {
        checkTexts(field.message, each as object);
      }
    }
  }
}

function decoded<O extends DescMessage>(schema: O, response: Uint8Array | undefined): MessageShape<O> {
  if (response === undefined) {
    throw new AnswerError("the server sent no response");
  }
  try {
    return fromBinary(schema, response);
  } catch (error) {
    throw new AnswerError(`the response is not a ${schema.name}`, { cause: error });
  }
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function sameBytes(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
