/** How a program proves to the server which caller it is, and to whom it speaks. */

import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";

import { credentials as grpcCredentials, type ChannelCredentials } from "@grpc/grpc-js";

/**
 * A bearer token, a file with one (`{ file }`, read again when it changes), or a function that
 * returns one. The function is called for each call: it keeps its token until the token expires.
 */
export type Token = string | { readonly file: string } | (() => string | Promise<string>);

/** The arguments of `CallerCredentials`. All files are PEM. */
export interface CallerCredentialsOptions {
  /** The file with the caller's certificate chain. */
  readonly certificate?: string | undefined;
  /** The file with the key of the certificate. */
  readonly privateKey?: string | undefined;
  /** The file with the authorities that the server's certificate may be from; else those of Node. */
  readonly authorities?: string | undefined;
  readonly token?: Token | undefined;
}

/**
 * A client certificate, a bearer token, or both. The connection always uses TLS.
 *
 * All files are read again when they change, at most a second later. While files do not fit
 * together, for example in the middle of a renewal, the previous ones stay in use, and the process
 * emits a warning (`process.on("warning")`).
 */
export class CallerCredentials {
  readonly #options: CallerCredentialsOptions;
  readonly #pemFiles: FileWatch;
  readonly #tokenFile: FileWatch;
  #channel: ChannelCredentials;
  #tokenText = "";

  /** Throws an `Error` if neither a certificate with its key nor a token is given, or a file is bad. */
  constructor(options: CallerCredentialsOptions) {
    const { certificate, privateKey, authorities, token } = options;
    if ((certificate === undefined) !== (privateKey === undefined)) {
      throw new Error("certificate and privateKey belong together: give both or neither");
    }
    if (certificate === undefined && !token) {
      throw new Error("give a certificate with its privateKey, a token, or both");
    }
    if (typeof token === "string") {
      checkedToken(token);
    }
    this.#options = { ...options };
    this.#pemFiles = new FileWatch([certificate, privateKey, authorities]);
    this.#tokenFile = new FileWatch([fileOf(token)]);
    this.#channel = this.#readChannel();
    this.#tokenText = this.#readToken();
  }

  /** What grpc-js opens a channel with: the files as they were last read. */
  get channel(): ChannelCredentials {
    return this.#channel;
  }

  /** Returns the token for a call; empty if there is none. */
  async token(): Promise<string> {
    const { token } = this.#options;
    return typeof token === "function" ? checkedToken(await token()) : this.#tokenText;
  }

  /** Looks at the files, and reads those that changed. Returns whether new channels differ. */
  renew(): boolean {
    try {
      if (this.#tokenFile.look()) {
        this.#tokenText = this.#readToken();
      }
      if (!this.#pemFiles.look()) {
        return false;
      }
      this.#channel = this.#readChannel();
      return true;
    } catch (error) {
      process.emitWarning(`credentials of the stepup client stay as they were: ${String(error)}`);
      return false;
    }
  }

  #readChannel(): ChannelCredentials {
    const { certificate, privateKey, authorities } = this.#options;
    const ca = authorities === undefined ? null : readFileSync(authorities);
    const key = privateKey === undefined ? null : readFileSync(privateKey);
    const cert = certificate === undefined ? null : readFileSync(certificate);
    // grpc-js would fail with the first call. OpenSSL says which files do not fit together.
    createSecureContext({
      ...(ca && { ca }),
      ...(key && { key }),
      ...(cert && { cert }),
    });
    return grpcCredentials.createSsl(ca, key, cert);
  }

  #readToken(): string {
    const { token } = this.#options;
    const file = fileOf(token);
    if (file === undefined) {
      return typeof token === "string" ? token : "";
    }
    try {
      return checkedToken(readFileSync(file, "utf8").trim());
    } catch (error) {
      throw new Error(`${file}: ${(error as Error).message}`);
    }
  }
}

/** Returns the token, if it can be one. The message of the error does not contain it (S11). */
function checkedToken(token: unknown): string {
  if (typeof token === "string" && /^[\x20-\x7e]+$/.test(token)) {
    return token;
  }
  throw new Error("not a token: it is empty, or has characters that no token has");
}

function fileOf(token: Token | undefined): string | undefined {
  return typeof token === "object" ? token.file : undefined;
}

/** Says whether files have changed since they were last looked at. */
class FileWatch {
  readonly #paths: readonly string[];
  #versions: string;

  constructor(paths: readonly (string | undefined)[]) {
    this.#paths = paths.filter((path) => path !== undefined);
    this.#versions = this.#current();
  }

  look(): boolean {
    const before = this.#versions;
    this.#versions = this.#current();
    return this.#versions !== before;
  }

  #current(): string {
    return this.#paths.map(versionOf).join(" ");
  }
}

function versionOf(path: string): string {
  try {
    const { dev, ino, mode, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, mode, size, mtimeNs, ctimeNs].join("-");
  } catch {
    return "absent";
  }
}
