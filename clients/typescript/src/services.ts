/** The services beside the checks: a method for each method of the contract. */

import { randomUUID } from "node:crypto";

import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";

import { AuditService } from "./gen/stepup/v1/audit_service_pb.js";
import { ChallengeService } from "./gen/stepup/v1/challenge_service_pb.js";
import { EnrollmentService } from "./gen/stepup/v1/enrollment_service_pb.js";
import { PeopleService } from "./gen/stepup/v1/people_service_pb.js";
import { PolicyService } from "./gen/stepup/v1/policy_service_pb.js";
import { PortalService } from "./gen/stepup/v1/portal_service_pb.js";
import type { CallOptions, Transport } from "./transport.js";

/** A method. It throws a `StepUpError` unless there is an answer. */
export type Unary<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: CallOptions,
) => Promise<MessageShape<O>>;

/** A method with many responses. It throws a `StepUpError` at its end unless it is complete. */
export type Stream<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: CallOptions,
) => AsyncIterable<MessageShape<O>>;

export type Services = ReturnType<typeof servicesOver>;

/** Returns the methods of each service. `docs/reference.md` of stepup describes them. */
export function servicesOver(transport: Transport) {
  function unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
  ): Unary<I, O> {
    return (request, options) => transport.unary(method, request, options);
  }

  /** A method whose request has a request id of the client, so that it may be sent again. */
  function resent<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
  ): Unary<I, O> {
    return (request, options) => {
      const identified: unknown = { ...request, requestId: randomUUID() };
      return transport.resent(method, identified as MessageInitShape<I>, options);
    };
  }

  function stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
  ): Stream<I, O> {
    return (request, options) => transport.stream(method, request, options);
  }

  const challenge = ChallengeService.method;
  const enrollment = EnrollmentService.method;
  const people = PeopleService.method;
  const policy = PolicyService.method;
  const audit = AuditService.method;
  const portal = PortalService.method;
  return {
    /** ChallengeService, for programs that show challenges to people. See also `approve`. */
    challenges: {
      create: resent(challenge.createChallenge),
      get: unary(challenge.getChallenge),
      list: unary(challenge.listChallenges),
      /** The states of a challenge, until it is not pending. */
      watch: stream(challenge.awaitChallenge),
      answer: resent(challenge.answerChallenge),
      decline: unary(challenge.declineChallenge),
      cancel: unary(challenge.cancelChallenge),
    },
    /** EnrollmentService: the wizard, reset codes, the account's MFA. */
    enrollment: {
      begin: unary(enrollment.beginEnrollment),
      confirm: unary(enrollment.confirmEnrollment),
      complete: unary(enrollment.completeEnrollment),
      cancel: unary(enrollment.cancelEnrollment),
      get: unary(enrollment.getEnrollment),
      remove: unary(enrollment.removeEnrollment),
      reset: unary(enrollment.resetEnrollment),
      adminReset: unary(enrollment.adminResetEnrollment),
      issueResetCode: unary(enrollment.issueResetCode),
      setAccountMfa: unary(enrollment.setAccountMfa),
    },
    /** PeopleService, for administrators and operators. */
    people: {
      list: unary(people.listPeople),
      get: unary(people.getPerson),
      unlock: unary(people.unlockUser),
      forget: unary(people.forgetUser),
      importAuthenticators: unary(people.importAuthenticators),
      listTenants: unary(people.listTenants),
    },
    /** PolicyService. */
    policy: {
      get: unary(policy.getPolicy),
      update: unary(policy.updatePolicy),
      listOperations: unary(policy.listOperations),
    },
    /** AuditService. */
    audit: {
      list: unary(audit.listAuditEvents),
      export: stream(audit.exportAuditEvents),
    },
    /** PortalService: a backend creates sessions, and redirects the person to their `url`. */
    portal: {
      create: unary(portal.createPortalSession),
      redeem: unary(portal.redeemPortalSession),
      get: unary(portal.getPortalSession),
      end: unary(portal.endPortalSession),
    },
  };
}
