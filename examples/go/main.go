// A backend in Go that asks stepup before it starts a remote shell.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "stepup-authz/stepup/v1"
)

// actors has the person of each session, by cookie; yours come from your sign-in.
var actors = map[string]*pb.ActorContext{
	"cookie-of-bob": {TenantId: os.Getenv("TENANT"), UserId: "bob", SessionId: "bob-monday"},
}

// A refusal is the answer to a request whose action must not run.
type refusal struct {
	status int
	reason string
}

type backend struct{ stepup pb.StepUpServiceClient }

// require returns nil if the action may run now, once. In every other case it returns a refusal: also for an
// error, for a server that does not answer in time, and for a decision that this program does not know.
func (b backend) require(ctx context.Context, actor *pb.ActorContext, operation, target string) *refusal {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request := &pb.CheckStepUpRequest{Actor: actor, Operation: operation, Target: target}
	answer, err := b.stepup.CheckStepUp(ctx, request)
	switch {
	case status.Code(err) == codes.FailedPrecondition: // such as a tenant that stepup does not know
		return &refusal{http.StatusConflict, "state"}
	case err != nil: // such as UNAVAILABLE and DEADLINE_EXCEEDED
		return &refusal{http.StatusServiceUnavailable, "no-decision"}
	case answer.Decision == pb.Decision_DECISION_ALLOWED:
		return nil
	case answer.Decision == pb.Decision_DECISION_ENROLLMENT_REQUIRED:
		return &refusal{http.StatusUnauthorized, "enrollment-required"}
	case answer.Decision == pb.Decision_DECISION_STEP_UP_REQUIRED && answer.Requirement.GetChallenge():
		return &refusal{http.StatusUnauthorized, "approval-required"} // a code for the session does not help
	case answer.Decision == pb.Decision_DECISION_STEP_UP_REQUIRED:
		return &refusal{http.StatusUnauthorized, "step-up-required"}
	}
	return &refusal{http.StatusServiceUnavailable, "no-decision"}
}

func (b backend) startShell(actor *pb.ActorContext, r *http.Request) (string, *refusal) {
	host := r.PostFormValue("host")
	if refused := b.require(r.Context(), actor, "response.start_remote_shell", host); refused != nil {
		return "", refused
	}
	return "session " + host + "/1", nil
}

func (b backend) sendCode(actor *pb.ActorContext, r *http.Request) (string, *refusal) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	request := &pb.VerifyOtpRequest{Actor: actor, Code: r.PostFormValue("code")}
	answer, err := b.stepup.VerifyOtp(ctx, request)
	if err != nil || answer.Outcome != pb.Outcome_OUTCOME_VERIFIED {
		return "", &refusal{http.StatusForbidden, "not-verified"}
	}
	return "verified", nil
}

// inSession serves the POST requests of people who are signed in.
func inSession(serve func(*pb.ActorContext, *http.Request) (string, *refusal)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("session")
		if err != nil || actors[cookie.Value] == nil || r.Method != http.MethodPost {
			http.Error(w, "sign-in-required", http.StatusForbidden)
		} else if body, refused := serve(actors[cookie.Value], r); refused != nil {
			http.Error(w, refused.reason, refused.status)
		} else {
			fmt.Fprintln(w, body)
		}
	}
}

func main() {
	target := os.Getenv("STEPUP_CLIENT_TARGET") // of this machine: for another one, use TLS
	connection, err := grpc.Dial(target, grpc.WithInsecure(), grpc.WithNoProxy())
	if err != nil {
		log.Fatal(err)
	}
	b := backend{pb.NewStepUpServiceClient(connection)}
	http.Handle("/shell", inSession(b.startShell))
	http.Handle("/code", inSession(b.sendCode))
	log.Fatal(http.ListenAndServe(os.Getenv("LISTEN"), nil))
}
