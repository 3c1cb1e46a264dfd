/** The environment variables of a client, which the README lists. The server leaves them alone. */

import { CallerCredentials } from "./credentials.js";

const PREFIX = "STEPUP_CLIENT_";
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["1", true],
  ["false", false],
  ["0", false],
]);

/** Returns the arguments of a client. Throws an `Error` that names the variable at fault. */
export function argumentsOf(variables: Readonly<Record<string, string | undefined>>) {
  const value = (name: string) => variables[PREFIX + name] || undefined;
  const target = value("TARGET");
  if (target === undefined) {
    throw new Error(`${PREFIX}TARGET is not set: the host and port of the server`);
  }
  const file = value("TOKEN_FILE");
  const text = value("TOKEN");
  if (file !== undefined && text !== undefined) {
    throw new Error(`${PREFIX}TOKEN and ${PREFIX}TOKEN_FILE are both set: remove one`);
  }
  const given = {
    certificate: value("CERTIFICATE"),
    privateKey: value("PRIVATE_KEY"),
    authorities: value("AUTHORITIES"),
    token: file === undefined ? text : { file },
  };
  const hasCredentials = Object.values(given).some((each) => each !== undefined);
  return {
    target,
    options: {
      credentials: hasCredentials ? new CallerCredentials(given) : undefined,
      insecure: boolean("INSECURE", value("INSECURE")),
      waitForReady: boolean("WAIT_FOR_READY", value("WAIT_FOR_READY")),
      timeout: milliseconds(value("TIMEOUT")),
    },
  };
}

function boolean(name: string, text: string | undefined): boolean | undefined {
  const value = text === undefined ? undefined : BOOLEANS.get(text.toLowerCase());
  if (text !== undefined && value === undefined) {
    throw new Error(`${PREFIX}${name} must be true or false`);
  }
  return value;
}

function milliseconds(seconds: string | undefined): number | undefined {
  if (seconds === undefined) {
    return undefined;
  }
  if (!/^\d+(\.\d+)?$/.test(seconds)) {
    throw new Error(`${PREFIX}TIMEOUT must be a number of seconds`);
  }
  return Number(seconds) * 1000;
}
