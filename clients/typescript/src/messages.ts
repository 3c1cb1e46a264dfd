/** The messages of the API, for the methods of `challenges`, `enrollment`, `people` and others. */

export * from "./gen/stepup/v1/actor_pb.js";
export * from "./gen/stepup/v1/audit_service_pb.js";
export * from "./gen/stepup/v1/challenge_service_pb.js";
export * from "./gen/stepup/v1/elevation_pb.js";
export * from "./gen/stepup/v1/enrollment_service_pb.js";
export * from "./gen/stepup/v1/people_service_pb.js";
export * from "./gen/stepup/v1/policy_service_pb.js";
export * from "./gen/stepup/v1/portal_service_pb.js";
export * from "./gen/stepup/v1/step_up_service_pb.js";
