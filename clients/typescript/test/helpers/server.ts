/** The real server of this repository, with people whose codes the tests can compute. */

import { spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { Role, type Actor, type StepUpClient } from "stepup-authz";

const PROGRAM = process.env["STEPUP_TEST_PROGRAM"] ?? join(process.cwd(), "../../.venv/bin/stepup");
const STEP = 30_000;
export const TENANT = "acme";

/** A process that prints its address on the first line. It ends with `stop`, and all its children. */
export class Program {
  readonly #process: ChildProcess;
  address = "";

  private constructor(command: string, args: string[], env: NodeJS.ProcessEnv, cwd: string) {
    this.#process = spawn(command, args, { env, cwd, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    process.on("exit", () => this.#isRunning && this.signal("SIGKILL"));
    process.once("SIGTERM", () => process.exit(1));
  }

  static async start(command: string, args: string[], env: NodeJS.ProcessEnv, cwd: string): Promise<Program> {
    const program = new Program(command, args, env, cwd);
    const { stdout, stderr } = program.#process;
    let log = "";
    stderr!.on("data", (text) => {
      log = (log + text).slice(-10_000);
    });
    const [line] = await Promise.race([
      once(createInterface(stdout!), "line"),
      once(program.#process, "exit").then(([code]) => {
        throw new Error(`${command} ended with ${code}:\n${log}`);
      }),
    ]);
    program.address = String(line).split(" ").at(-1)!;
    return program;
  }

  get #isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Sends a signal to the process and its children. */
  signal(name: NodeJS.Signals): void {
    process.kill(-this.#process.pid!, name);
  }

  async stop(): Promise<void> {
    if (this.#isRunning) {
      this.signal("SIGKILL");
      await once(this.#process, "exit");
    }
  }
}

/** Starts the server with embedded stores. It accepts codes of the last step, so that tests need not wait. */
export async function startServer(): Promise<{ program: Program; stop: () => Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), "ts-"));
  const outside = Object.entries(process.env).filter(([name]) => !name.startsWith("STEPUP_"));
  const env = { ...Object.fromEntries(outside), STEPUP_VERIFICATION__BACK_STEPS: "1", HOME: directory };
  const args = ["serve", "--insecure", "--listen", "127.0.0.1:0", "--data-dir", join(directory, "data")];
  const program = await Program.start(PROGRAM, args, env, directory);
  const stop = async () => {
    await program.stop();
    rmSync(directory, { recursive: true, maxRetries: 5 });
  };
  return { program, stop };
}

/** Turns MFA on: osquery needs a code, a remote shell a challenge. */
export async function enablePolicy(stepup: StepUpClient): Promise<void> {
  const actor = { ...person("ada"), role: Role.MASTER_ADMINISTRATOR };
  const { policy } = await stepup.policy.get({ tenantId: TENANT });
  await stepup.policy.update({
    actor,
    policy: {
      enabled: true,
      operations: [
        { operation: "response.run_osquery" },
        { operation: "response.start_remote_shell", everyTime: true },
      ],
      etag: policy!.etag,
    },
    updateMask: { paths: ["enabled", "operations"] },
  });
}

export function person(userId: string, sessionId = `${userId}-monday`): Actor {
  return { tenantId: TENANT, userId, sessionId };
}

/** Enrols a person, whose session is elevated then. Returns the secret; `code(secret)` is unused. */
export async function enrol(stepup: StepUpClient, actor: Actor): Promise<string> {
  const { secret } = await stepup.enrollment.begin({ actor });
  await soonAfterAStep();
  const { resetCode } = await stepup.enrollment.confirm({ actor, code: code(secret, -1) });
  if (!resetCode) {
    throw new Error("the code was not accepted");
  }
  await stepup.enrollment.complete({ actor, resetCodeStored: true });
  return secret;
}

/** The end of a step must not come between a code and its arrival. */
export async function soonAfterAStep(): Promise<void> {
  const left = STEP - (Date.now() % STEP);
  if (left < 3000) {
    await sleep(left + 50);
  }
}

/** The code of a secret in base32, now or some steps apart (RFC 6238, RFC 4226 §5.3). */
export function code(secret: string, steps = 0): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / STEP) + steps));
  const digest = createHmac("sha1", base32(secret)).update(counter).digest();
  const offset = digest[19]! & 15;
  const number = (digest.readUInt32BE(offset) & 0x7fff_ffff) % 1_000_000;
  return String(number).padStart(6, "0");
}

function base32(text: string): Buffer {
  const bits = [...text].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0"));
  return Buffer.from(bits.join("").match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
}
