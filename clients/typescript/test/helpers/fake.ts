/** A server of this test: real gRPC, scripted answers. */

import { once } from "node:events";
import net from "node:net";

import { create, fromBinary, toBinary, type DescMethod, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { StepUpClient, type StepUpClientOptions } from "stepup-authz";
import { ChallengeService, StepUpService, type CheckStepUpResponseSchema } from "stepup-authz/messages";

import { ErrorInfoSchema, RetryInfoSchema, BadRequestSchema } from "../../dist/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../dist/gen/google/rpc/status_pb.js";

/** Answers a request: with messages or bytes, or by an error; `hang` never answers. */
export type Script = (request: any, metadata: grpc.Metadata) => unknown;
export const hang = () => new Promise<never>(() => {});

/** Bob, in his session. */
export const BOB = { tenantId: "acme", userId: "bob", sessionId: "bob-monday" };
export const OSQUERY = "response.run_osquery";

export class Fake {
  /** The requests, as messages, in the order in which they came. */
  readonly requests: any[] = [];
  readonly metadata: grpc.Metadata[] = [];
  port = 0;
  readonly #server = new grpc.Server();
  readonly #clients: StepUpClient[] = [];

  static async start(scripts: Record<string, Script>, credentials?: grpc.ServerCredentials): Promise<Fake> {
    const fake = new Fake();
    for (const service of [StepUpService, ChallengeService]) {
      const methods = service.methods.filter((method) => method.localName in scripts);
      if (methods.length === 0) {
        continue; // grpc-js refuses a service without methods
      }
      fake.#server.addService(
        Object.fromEntries(methods.map((method) => [method.name, definition(method)])),
        Object.fromEntries(methods.map((method) => [method.name, fake.#handler(method, scripts)])),
      );
    }
    fake.port = await new Promise((resolve, reject) => {
      fake.#server.bindAsync(
        "127.0.0.1:0",
        credentials ?? grpc.ServerCredentials.createInsecure(),
        (error, port) => (error ? reject(error) : resolve(port)),
      );
    });
    return fake;
  }

  client(options: StepUpClientOptions = {}): StepUpClient {
    return this.clientOf(`127.0.0.1:${this.port}`, options);
  }

  /** A client that ends with this server. */
  clientOf(target: string, options: StepUpClientOptions = {}): StepUpClient {
    const client = new StepUpClient(target, { timeout: 2000, ...options });
    this.#clients.push(client);
    return client;
  }

  /** Cuts all connections, as the end of the process does. */
  kill(): void {
    this.#server.forceShutdown();
  }

  stop(): void {
    this.#clients.forEach((client) => client.close());
    this.kill();
  }

  #handler(method: DescMethod, scripts: Record<string, Script>) {
    return async (call: any, callback?: (error: unknown, response?: Uint8Array) => void) => {
      const request = fromBinary(method.input, call.request);
      this.requests.push(request);
      this.metadata.push(call.metadata);
      try {
        const answer = await scripts[method.localName]!(request, call.metadata);
        if (callback) {
          callback(null, bytesOf(method, answer));
          return;
        }
        for await (const each of answer as AsyncIterable<unknown>) {
          call.write(bytesOf(method, each));
        }
        call.end();
      } catch (error) {
        callback ? callback(error) : call.emit("error", error);
      }
    };
  }
}

function bytesOf(method: DescMethod, answer: unknown): Uint8Array {
  return answer instanceof Uint8Array ? answer : toBinary(method.output, create(method.output, answer as any));
}

function definition(method: DescMethod): grpc.MethodDefinition<Uint8Array, Uint8Array> {
  const same = (bytes: Uint8Array) => Buffer.from(bytes);
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

/** A decision with the reason, ids and other parts. */
export function decided(response: MessageInitShape<typeof CheckStepUpResponseSchema>) {
  return { decisionId: "7b7a4b0a-0f3c-4c07-8d6c-0f8f0a9e2c11", ...response };
}

export interface Failure {
  reason?: string;
  domain?: string;
  field?: string;
  retrySeconds?: number;
  metadata?: Record<string, string>;
}

/** An error with the details that the service sends. */
export function failure(code: grpc.status, { reason, domain = "stepup", field, retrySeconds, metadata = {} }: Failure = {}) {
  const details = [
    ...(reason ? [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { domain, reason, metadata }))] : []),
    ...(field ? [anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [{ field }] }))] : []),
    ...(retrySeconds
      ? [anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(1000 * retrySeconds) }))]
      : []),
  ];
  const trailers = new grpc.Metadata();
  trailers.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, details }))));
  return { code, details: "scripted", metadata: trailers };
}

/** A TCP server that treats each connection as the function says. */
export async function tcpServer(treat: (socket: net.Socket) => void) {
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    treat(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const stop = () => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  };
  return { stop, target: `127.0.0.1:${(server.address() as net.AddressInfo).port}` };
}
