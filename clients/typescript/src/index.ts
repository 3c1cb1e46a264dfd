/** What programs call before they carry out an action. The README explains it. */

export { Action } from "./action.js";
export type { Actor, OperatorActor } from "./actor.js";
export type {
  Allowed,
  Answer,
  Approved,
  EnrollmentRequired,
  NotVerified,
  StepUpRequired,
  Verification,
  Verified,
} from "./answers.js";
export type { ApproveOptions, Item } from "./approvals.js";
export {
  StepUpClient,
  type ActionOptions,
  type Check,
  type CheckOptions,
  type StepUpClientOptions,
} from "./client.js";
export { CallerCredentials, type CallerCredentialsOptions, type Token } from "./credentials.js";
export { SERVICE_CONFIG } from "./endpoint.js";
export {
  AnswerError,
  NotAllowedError,
  NotApprovedError,
  RequestError,
  StateError,
  StepUpError,
  UnavailableError,
} from "./errors.js";
export { AccountType, PlaybookTrigger, Role, Team } from "./gen/stepup/v1/actor_pb.js";
export type { CallOptions } from "./transport.js";
