// Makes calls with gRPC for Node.js: `node caller.js <proto> <target>`. A line of JSON on standard
// input is a call, {id, path, requests, seconds, metadata}, or takes one back, {id}; a line on
// standard output says how a call ended, {id, responses} or {id, code, message}.

const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, target] = process.argv.slice(2);
const { testing } = grpc.loadPackageDefinition(loader.loadSync(proto, { bytes: String })).grpc;
const codes = Object.fromEntries(Object.entries(grpc.status).map(([name, code]) => [code, name]));
const stubs = {};
const calls = {};

function begin({ id, path, requests, seconds, metadata }) {
  const [service, name] = path.split("/");
  stubs[service] ??= new testing[service](target, grpc.credentials.createInsecure());
  const sent = new grpc.Metadata();
  for (const [key, value] of Object.entries(metadata)) {
    sent.set(key, key.endsWith("-bin") ? Buffer.from(value, "base64") : value);
  }
  const options = { deadline: Date.now() + seconds * 1000 };
  const { requestStream, responseStream } = testing[service].service[name];
  const responses = [];
  const end = (error) => {
    if (!(id in calls)) return;
    delete calls[id];
    const outcome = error ? { code: codes[error.code], message: error.details } : { responses };
    console.log(JSON.stringify({ id, ...outcome }));
  };
  const given = [sent, options];
  if (!requestStream) given.unshift(requests[0]);
  if (!responseStream) {
    given.push((error, response) => {
      responses.push(response);
      end(error);
    });
  }
  const call = (calls[id] = stubs[service][name](...given));
  if (responseStream) {
    call.on("data", (response) => responses.push(response));
    call.on("error", end);
    call.on("end", () => end(null));
  }
  if (requestStream) {
    for (const request of requests) call.write(request);
    call.end();
  }
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const told = JSON.parse(line);
  if (told.path) begin(told);
  else calls[told.id]?.cancel();
});
lines.on("close", () => process.exit());
