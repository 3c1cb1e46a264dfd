// Command yardstick is CheckStepUp in Go, to measure against: grpc-go, and redigo on a pool.
//
// "noop" decodes the request and answers a constant. "check" does what a check cannot do without:
// it reads the elevation and the mark of revocation that stepup itself has written, in one round
// trip, decides, and answers. "same-work" also does the rest of stepup's work: see same_work.go.
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
	found, err := live(payload(stored), mark, time.Now())
	if err != nil {
		return nil, err
	}
	elevation := found.message()
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

// payload is what a stored value says, without its version, its MAC and the id of the MAC's key.
func payload(stored []byte) []byte {
	if len(stored) < 18 || len(stored) < 18+int(stored[17]) {
		return nil
	}
	return stored[18+int(stored[17]):]
}

type elevation struct {
	enrollment           string
	verifiedAt, expireAt time.Time
}

// live is the elevation of a payload, or nil when there is none, it has ended, or it was revoked.
func live(payload, mark []byte, now time.Time) (*elevation, error) {
	if payload == nil {
		return nil, nil
	}
	var enrollment string
	var verified, lifetime int64
	var methods []string
	fields := []interface{}{&enrollment, &verified, &lifetime, &methods}
	if err := json.Unmarshal(payload, &fields); err != nil {
		return nil, err
	}
	if mark != nil {
		through, err := strconv.ParseInt(string(mark), 10, 64)
		if err != nil || verified <= through {
			return nil, err
		}
	}
	found := elevation{enrollment, time.UnixMicro(verified), time.UnixMicro(verified + lifetime)}
	if !now.Before(found.expireAt) {
		return nil, nil
	}
	return &found, nil
}

func (e *elevation) message() *pb.Elevation {
	if e == nil {
		return nil
	}
	return &pb.Elevation{
		VerifiedAt: timestamppb.New(e.verifiedAt),
		ExpiresAt:  timestamppb.New(e.expireAt),
		Methods:    []pb.AuthenticationMethod{pb.AuthenticationMethod_AUTHENTICATION_METHOD_TOTP},
	}
}

func main() {
	kind := flag.String("kind", "noop", "noop, check or same-work")
	directory := flag.String("directory", ".", "the stage's directory, for same-work")
	store := flag.String("redis", "", "host and port of the store")
	flag.Parse()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	dial := func() (redis.Conn, error) { return redis.Dial("tcp", *store) }
	pool := &redis.Pool{Dial: dial, MaxIdle: 64, MaxActive: 64, Wait: true}
	server := grpc.NewServer()
	switch *kind {
	case "noop":
		pb.RegisterStepUpServiceServer(server, noop{})
	case "check":
		pb.RegisterStepUpServiceServer(server, check{store: pool})
	case "same-work":
		work, err := newSameWork(check{store: pool}, *directory)
		if err != nil {
			log.Fatal(err)
		}
		pb.RegisterStepUpServiceServer(server, work)
	default:
		log.Fatalf("there is no kind %q", *kind)
	}
	fmt.Fprintf(os.Stdout, "stepup is listening on %s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}
