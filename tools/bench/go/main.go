// Command yardstick is CheckStepUp in Go, to measure against: grpc-go, and redigo on a pool.
//
// "noop" decodes the request and answers a constant. "check" does what a check cannot do without:
// it reads the elevation and the mark of revocation that stepup itself has written, in one round
// trip, decides, and answers. It has no authentication, policy, decision log, receipt or metrics.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "stepup/v1"
)

type noop struct {
	pb.UnimplementedStepUpServiceServer
}

func (noop) CheckStepUp(context.Context, *pb.CheckStepUpRequest) (*pb.CheckStepUpResponse, error) {
	return &pb.CheckStepUpResponse{
		Decision: pb.Decision_DECISION_ALLOWED,
		Reason:   pb.DecisionReason_DECISION_REASON_ELEVATED,
	}, nil
}

type check struct {
	pb.UnimplementedStepUpServiceServer
	store *redis.Pool
}

func (c check) CheckStepUp(_ context.Context, in *pb.CheckStepUpRequest) (*pb.CheckStepUpResponse, error) {
	stored, mark, err := c.read(in.GetActor())
	if err != nil {
		return nil, err
	}
	elevation, err := live(stored, mark, time.Now())
	if err != nil {
		return nil, err
	}
	if elevation == nil {
		return &pb.CheckStepUpResponse{
			Decision: pb.Decision_DECISION_STEP_UP_REQUIRED,
			Reason:   pb.DecisionReason_DECISION_REASON_NOT_ELEVATED,
		}, nil
	}
	return &pb.CheckStepUpResponse{
		Decision:  pb.Decision_DECISION_ALLOWED,
		Reason:    pb.DecisionReason_DECISION_REASON_ELEVATED,
		Elevation: elevation,
	}, nil
}

// read gets the elevation of the actor's session, and the mark through which the user's are void.
func (c check) read(actor *pb.ActorContext) (stored, mark []byte, err error) {
	tag := "{" + digest(actor.GetTenantId(), actor.GetUserId()) + "}"
	session := sha256.Sum256([]byte(strings.Join(
		[]string{actor.GetTenantId(), actor.GetUserId(), actor.GetSessionId()}, "\x00")))
	connection := c.store.Get()
	defer connection.Close()
	values, err := redis.ByteSlices(connection.Do(
		"MGET", "e"+tag+digest(hex.EncodeToString(session[:])[:32]), "r"+tag))
	if err != nil {
		return nil, nil, err
	}
	return values[0], values[1], nil
}

// digest is that of stepup's keyspace: 96 bits of SHA-256.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base64.URLEncoding.EncodeToString(sum[:12])
}

// live is the stored elevation, or nil when there is none, it has ended, or it was revoked.
func live(stored, mark []byte, now time.Time) (*pb.Elevation, error) {
	if stored == nil {
		return nil, nil
	}
	var owner, enrollment string
	var version, verified, lifetime int64
	var methods []string
	fields := []interface{}{&version, &owner, &enrollment, &verified, &lifetime, &methods}
	if err := json.Unmarshal(stored, &fields); err != nil {
		return nil, err
	}
	if mark != nil {
		through, err := strconv.ParseInt(string(mark), 10, 64)
		if err != nil || verified <= through {
			return nil, err
		}
	}
	from, until := time.UnixMicro(verified), time.UnixMicro(verified+lifetime)
	if !now.Before(until) {
		return nil, nil
	}
	return &pb.Elevation{
		VerifiedAt: timestamppb.New(from),
		ExpiresAt:  timestamppb.New(until),
		Methods:    []pb.AuthenticationMethod{pb.AuthenticationMethod_AUTHENTICATION_METHOD_TOTP},
	}, nil
}

func main() {
	kind := flag.String("kind", "noop", "noop or check")
	store := flag.String("redis", "", "host and port of the store")
	flag.Parse()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	switch *kind {
	case "noop":
		pb.RegisterStepUpServiceServer(server, noop{})
	case "check":
		dial := func() (redis.Conn, error) { return redis.Dial("tcp", *store) }
		pool := &redis.Pool{Dial: dial, MaxIdle: 64, MaxActive: 64, Wait: true}
		pb.RegisterStepUpServiceServer(server, check{store: pool})
	default:
		log.Fatalf("there is no kind %q", *kind)
	}
	fmt.Fprintf(os.Stdout, "stepup is listening on %s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}
