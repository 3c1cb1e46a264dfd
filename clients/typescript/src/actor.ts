/** The person who wants to do an action, and what a program presents for that person. */

import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AccountType, ActorContextSchema, PlaybookTrigger, Role, Team } from "./gen/stepup/v1/actor_pb.js";

/**
 * The person who wants to do an action, in one session. The program vouches for each field, and
 * needs permission for those that give an exemption or a right.
 */
export interface Actor {
  /** The business: 1 to 128 bytes of printable ASCII. */
  readonly tenantId: string;
  /** The person within the tenant: 1 to 128 bytes of printable ASCII. */
  readonly userId: string;
  /** The person's sign-in session, or the id of an automatic run: 1 to 128 bytes of printable ASCII. */
  readonly sessionId: string;
  readonly accountType?: AccountType;
  readonly role?: Role;
  readonly team?: Team;
  readonly playbookRun?: {
    readonly playbookId: string;
    readonly runId: string;
    readonly trigger: PlaybookTrigger;
  };
  /** The receipt of the answer that first allowed an action which timed out. See `Action`. */
  readonly retryReceipt?: string;
  /** The challenge that the person approved for the action. See `approve`. */
  readonly challengeId?: string;
  /** The device of the person, as the program saw it. */
  readonly client?: { readonly address?: string; readonly userAgent?: string };
}

/** An operator of the platform, who acts by name and with a reason instead of a person. */
export interface OperatorActor {
  readonly tenantId: string;
  readonly operator: { readonly name: string; readonly reason: string };
}

type ActorInit = MessageInitShape<typeof ActorContextSchema>;

/** Returns the message of an actor, with a receipt and a challenge if there are any. */
export function presenting(
  actor: Actor | OperatorActor,
  receipt: string | undefined,
  challengeId: string | undefined,
): ActorInit {
  return {
    ...(actor as ActorInit),
    ...(receipt && { retryReceipt: receipt }),
    ...(challengeId && { challengeId }),
  };
}
