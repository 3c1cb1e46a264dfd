package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/blake2b"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "stepup/v1"
)

// sameWork does for each call what `stepup serve` does for a check of an elevated person: it verifies
// the bearer token (once per token, as stepup does), matches the caller's rules, looks the operation
// up in the policy, reads the elevation and computes its MAC, decides, makes a receipt, writes the
// decision log and a finish line, and counts. It has no key ring: it computes the same MACs over the
// same bytes with a key of its own, and does not compare that of the elevation.
type sameWork struct {
	pb.UnimplementedStepUpServiceServer
	check     check
	keys      map[string]*ecdsa.PublicKey
	callers   sync.Map // token -> caller
	key       []byte
	selected  map[string]bool
	decisions *os.File
	counts    [16]uint64
	nanos     uint64
}

type caller struct {
	name, identity string
	expireAt       time.Time
	rules          []rule
}

type rule struct {
	methods, operations []string
}

// A decision as the decision log has it; the names and their order are stepup's.
type decision struct {
	DecisionID   string            `json:"decision_id"`
	DecidedAt    string            `json:"decided_at"`
	Caller       string            `json:"caller"`
	RequestID    string            `json:"request_id"`
	Identities   []string          `json:"identities"`
	TenantID     string            `json:"tenant_id"`
	UserID       string            `json:"user_id"`
	Session      string            `json:"session"`
	AccountType  string            `json:"account_type"`
	Role         string            `json:"role"`
	Team         string            `json:"team"`
	Operation    string            `json:"operation"`
	Target       string            `json:"target"`
	Decision     string            `json:"decision"`
	Reason       string            `json:"reason"`
	PolicyEtag   string            `json:"policy_etag"`
	GrantedBy    string            `json:"granted_by"`
	Claims       map[string]string `json:"claims"`
	ElevatedAt   string            `json:"elevated_at"`
	EnrollmentID string            `json:"enrollment_id"`
}

type finish struct {
	Method         string  `json:"method"`
	RequestID      string  `json:"request_id"`
	TraceID        *string `json:"trace_id"`
	Peer           string  `json:"peer"`
	Caller         string  `json:"caller"`
	Code           string  `json:"code"`
	Reason         *string `json:"reason"`
	DurationMs     float64 `json:"duration_ms"`
	Decision       string  `json:"decision"`
	DecisionReason string  `json:"decision_reason"`
	Event          string  `json:"event"`
	Level          string  `json:"level"`
	Timestamp      string  `json:"timestamp"`
}

func newSameWork(reading check, directory string) (*sameWork, error) {
	data := filepath.Join(directory, "data", "decisions.jsonl")
	decisions, err := os.OpenFile(data, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	keys, err := readKeys(filepath.Join(directory, "jwks.json"))
	if err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	selected := map[string]bool{"response.run_osquery": true}
	return &sameWork{check: reading, keys: keys, key: key, selected: selected, decisions: decisions}, nil
}

func (w *sameWork) CheckStepUp(ctx context.Context, in *pb.CheckStepUpRequest) (*pb.CheckStepUpResponse, error) {
	began := time.Now()
	who, err := w.authenticate(ctx, began)
	if err != nil {
		return nil, err
	}
	granted := who.granted("StepUpService/CheckStepUp", in.GetOperation())
	if granted < 0 {
		return nil, status.Error(codes.PermissionDenied, "CALLER_NOT_PERMITTED")
	}
	actor := in.GetActor()
	for _, id := range []string{actor.GetTenantId(), actor.GetUserId(), actor.GetSessionId()} {
		if id == "" || len(id) > 256 {
			return nil, status.Error(codes.InvalidArgument, "INVALID_ARGUMENT")
		}
	}
	if !w.selected[in.GetOperation()] {
		return nil, status.Error(codes.InvalidArgument, "UNKNOWN_OPERATION")
	}
	stored, mark, err := w.check.read(actor)
	if err != nil {
		return nil, err
	}
	w.mac(actor, stored)
	found, err := live(payload(stored), mark, began)
	if err != nil || found == nil {
		return nil, status.Error(codes.Internal, "the person of the benchmark is elevated")
	}
	id, request := uuid(), uuid()
	session := sessionHash(actor)
	answer := &pb.CheckStepUpResponse{
		Decision:   pb.Decision_DECISION_ALLOWED,
		Reason:     pb.DecisionReason_DECISION_REASON_ELEVATED,
		DecisionId: id,
		Elevation:  found.message(),
		Receipt:    w.receipt(id, who.name, session, in, found, began),
	}
	line, err := json.Marshal(decision{
		DecisionID: id, DecidedAt: began.UTC().Format(time.RFC3339Nano), Caller: who.name,
		RequestID: request, Identities: []string{who.identity}, TenantID: actor.GetTenantId(),
		UserID: actor.GetUserId(), Session: session, AccountType: "local", Role: "other",
		Team: "other", Operation: in.GetOperation(), Target: in.GetTarget(), Decision: "allowed",
		Reason: "elevated", PolicyEtag: "ea30d26948ea4568",
		GrantedBy:  fmt.Sprintf("callers[1].rules[%d]", granted),
		Claims:     map[string]string{},
		ElevatedAt: found.verifiedAt.UTC().Format(time.RFC3339Nano), EnrollmentID: found.enrollment,
	})
	if err != nil {
		return nil, err
	}
	if _, err := w.decisions.Write(append(line, '\n')); err != nil {
		return nil, status.Error(codes.Unavailable, "DECISION_LOG_UNAVAILABLE")
	}
	w.finish(ctx, who, request, began)
	return answer, nil
}

// authenticate verifies the bearer token; a token that was verified before counts until it expires.
func (w *sameWork) authenticate(ctx context.Context, now time.Time) (*caller, error) {
	refused := status.Error(codes.Unauthenticated, "UNAUTHENTICATED")
	received, _ := metadata.FromIncomingContext(ctx)
	values := received.Get("authorization")
	if len(values) != 1 || !strings.HasPrefix(values[0], "Bearer ") {
		return nil, refused
	}
	token := values[0][len("Bearer "):]
	if known, ok := w.callers.Load(token); ok {
		if who := known.(*caller); now.Before(who.expireAt) {
			return who, nil
		}
		return nil, refused
	}
	who, err := w.verify(token)
	if err != nil || !now.Before(who.expireAt) {
		return nil, refused
	}
	w.callers.Store(token, who)
	return who, nil
}

func (w *sameWork) verify(token string) (*caller, error) {
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss, Aud, Sub string
		Exp           int64
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || decoded(parts[0], &header) != nil || decoded(parts[1], &claims) != nil {
		return nil, fmt.Errorf("the token is malformed")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	key := w.keys[header.Kid]
	if err != nil || len(signature) != 64 || header.Alg != "ES256" || key == nil {
		return nil, fmt.Errorf("the token has no signature that can be verified")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(key, digest[:], r, s) || claims.Aud != "stepup" || claims.Sub != "console" {
		return nil, fmt.Errorf("the token is not of the console")
	}
	return &caller{
		name: claims.Sub, identity: "jwt:" + claims.Iss + "#" + claims.Sub,
		expireAt: time.Unix(claims.Exp, 0),
		rules: []rule{{
			methods:    []string{"EnrollmentService/*", "PolicyService/*", "StepUpService/*"},
			operations: []string{"account.*", "iam.*", "response.*"},
		}},
	}, nil
}

// granted is the number of the rule that lets the caller in, or -1.
func (c *caller) granted(method, operation string) int {
	for number, rule := range c.rules {
		if matches(rule.methods, method) && matches(rule.operations, operation) {
			return number
		}
	}
	return -1
}

func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if pattern == name || strings.HasSuffix(pattern, "*") && strings.HasPrefix(name, pattern[:len(pattern)-1]) {
			return true
		}
	}
	return false
}

// mac computes the MAC that a stored elevation has, and looks whether it is the stored one.
func (w *sameWork) mac(actor *pb.ActorContext, stored []byte) bool {
	if len(stored) < 17 {
		return false
	}
	tag := "e{" + digest(actor.GetTenantId(), actor.GetUserId()) + "}" + digest(sessionHash(actor))
	place := strings.Join([]string{tag, actor.GetTenantId(), actor.GetUserId(), sessionHash(actor), ""}, "\x00")
	hash, err := blake2b.New(16, w.key)
	if err != nil {
		return false
	}
	hash.Write([]byte(place))
	hash.Write(stored[17:])
	return subtle.ConstantTimeCompare(hash.Sum(nil), stored[1:17]) == 1
}

// receipt has the layout of stepup's receipts, and as many digests and one HMAC-SHA-256.
func (w *sameWork) receipt(id, caller, session string, in *pb.CheckStepUpRequest, found *elevation, now time.Time) string {
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	raw = binary.BigEndian.AppendUint64(raw, uint64(now.UnixMicro()))
	raw = binary.BigEndian.AppendUint64(raw, uint64(found.verifiedAt.UnixMicro()))
	raw = append(raw, 0)
	for _, part := range []string{found.enrollment, caller, session, in.GetOperation(), in.GetTarget()} {
		sum := sha256.Sum256([]byte(part))
		raw = append(raw, sum[:16]...)
	}
	text := "2.e85a2d750cb3240b." + base64.RawURLEncoding.EncodeToString(raw)
	mac := hmac.New(sha256.New, w.key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// finish writes the finish line, and counts the call and its time.
func (w *sameWork) finish(ctx context.Context, who *caller, request string, began time.Time) {
	from := ""
	if client, ok := peer.FromContext(ctx); ok {
		from = "ipv4:" + client.Addr.String()
	}
	took := time.Since(began)
	atomic.AddUint64(&w.nanos, uint64(took))
	bucket := 0
	for limit := 500 * time.Microsecond; bucket < len(w.counts)-1 && took > limit; bucket++ {
		limit *= 2
	}
	atomic.AddUint64(&w.counts[bucket], 1)
	line, err := json.Marshal(finish{
		Method: "stepup.v1.StepUpService/CheckStepUp", RequestID: request, Peer: from,
		Caller: who.name, Code: "OK", DurationMs: float64(took.Microseconds()) / 1000,
		Decision: "allowed", DecisionReason: "elevated", Event: "call", Level: "info",
		Timestamp: time.Now().UTC().Format(time.RFC3339Nano),
	})
	if err == nil {
		os.Stderr.Write(append(line, '\n'))
	}
}

func sessionHash(actor *pb.ActorContext) string {
	sum := sha256.Sum256([]byte(strings.Join(
		[]string{actor.GetTenantId(), actor.GetUserId(), actor.GetSessionId()}, "\x00")))
	return hex.EncodeToString(sum[:])[:32]
}

func uuid() string {
	var raw [16]byte
	rand.Read(raw[:])
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	text := hex.EncodeToString(raw[:])
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

func decoded(part string, into interface{}) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func readKeys(path string) (map[string]*ecdsa.PublicKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var set struct{ Keys []struct{ Kid, X, Y string } }
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, err
	}
	keys := map[string]*ecdsa.PublicKey{}
	for _, key := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, err
		}
		y, err := base64.RawURLEncoding.DecodeString(key.Y)
		if err != nil {
			return nil, err
		}
		keys[key.Kid] = &ecdsa.PublicKey{
			Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y),
		}
	}
	return keys, nil
}
