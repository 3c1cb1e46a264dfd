/** Where a server is, how a client speaks to it, and when credentials are needed. */

import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";

import { credentials as grpcCredentials, type ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";

import { CallerCredentials } from "./credentials.js";

/**
 * The published retry advice, for channels of your own: `grpc.service_config`.
 *
 * It resends checks and reads on UNAVAILABLE, and on CANCELLED, which a server that ends answers to
 * calls that it has not begun. A check with a receipt or a challenge must have a request id.
 */
export const SERVICE_CONFIG = readFileSync(new URL("./service_config.json", import.meta.url), "utf8");

/** The arguments of `StepUpClient` that say how it reaches the server. */
export interface EndpointOptions {
  /**
   * How this program proves which caller it is; or channel credentials of grpc-js, which are never
   * read again. Leave it out only for a server on this machine, or with `insecure`.
   */
  readonly credentials?: CallerCredentials | ChannelCredentials | undefined;
  /**
   * Send everything in plain text to another machine, for trials on a network that you trust:
   * everybody on that network can read codes, and answer that actions are allowed.
   */
  readonly insecure?: boolean | undefined;
  /** Further channel options of grpc-js; they win over those of the client. */
  readonly channelOptions?: ChannelOptions | undefined;
}

/** A server, and how to reach it. */
export class Endpoint {
  readonly target: string;
  readonly #options: EndpointOptions;

  /** Throws an `Error` if the target needs credentials, or credentials would be in plain text. */
  constructor(target: string, options: EndpointOptions) {
    if (options.credentials !== undefined && options.insecure) {
      throw new Error("insecure would send credentials in plain text: leave one of the two out");
    }
    if (options.credentials === undefined && !options.insecure && !isLocalTarget(target)) {
      throw new Error(
        `${target} is not an address of this machine, and needs credentials. For trials on a` +
          " network that you trust, pass insecure: true: everybody on that network can read codes," +
          " and answer that actions are allowed",
      );
    }
    this.target = target;
    this.#options = options;
  }

  /** The same server, for channels that share no connection with others. */
  apart(): Endpoint {
    return new Endpoint(this.target, {
      ...this.#options,
      channelOptions: { ...this.#options.channelOptions, "grpc.use_local_subchannel_pool": 1 },
    });
  }

  /** The credentials for a new channel. */
  channelCredentials(): ChannelCredentials {
    const { credentials } = this.#options;
    if (credentials instanceof CallerCredentials) {
      return credentials.channel;
    }
    return credentials ?? grpcCredentials.createInsecure();
  }

  /** Looks at the files of the credentials. Returns whether new channels differ from earlier ones. */
  renew(): boolean {
    const { credentials } = this.#options;
    return credentials instanceof CallerCredentials && credentials.renew();
  }

  /** Returns the bearer token of a call; empty if there is none. */
  async token(): Promise<string> {
    const { credentials } = this.#options;
    return credentials instanceof CallerCredentials ? await credentials.token() : "";
  }

  /**
   * The options of a new channel; those of the caller win. No channel uses a proxy of the
   * environment, and none takes its service config from DNS.
   */
  channelOptions(): ChannelOptions {
    return {
      "grpc.service_config": SERVICE_CONFIG,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_http_proxy": 0,
      "grpc.keepalive_time_ms": 20_000,
      "grpc.keepalive_timeout_ms": 10_000,
      "grpc.keepalive_permit_without_calls": 1,
      // A server that was restarted is found within seconds.
      "grpc.initial_reconnect_backoff_ms": 200,
      "grpc.max_reconnect_backoff_ms": 5000,
      ...this.#options.channelOptions,
    };
  }
}

/** Whether a gRPC target is a unix socket, or has only loopback addresses. */
export function isLocalTarget(target: string): boolean {
  if (target.startsWith("unix:")) {
    return true;
  }
  const addresses = target.replace(/^(dns|ipv4|ipv6):(\/\/\/)?/, "").split(",");
  return addresses.every((address) => isLoopback(hostOf(address)));
}

function hostOf(address: string): string {
  const inBrackets = /^\[([^\]]*)\](:\d+)?$/.exec(address)?.[1];
  return inBrackets ?? address.split(":", 1)[0] ?? "";
}

function isLoopback(host: string): boolean {
  return (
    host === "localhost" ||
    (/^127(\.\d{1,3}){3}$/.test(host) && host.split(".").every((part) => Number(part) < 256)) ||
    (isIPv6(host) && new URL(`http://[${host}]`).hostname === "[::1]")
  );
}
