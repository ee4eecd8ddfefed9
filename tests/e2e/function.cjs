// A Lambda function as the runtime interface emulator serves it: an Invoke endpoint over HTTP. The function answers by
// the event's path; stdout tells the port.
"use strict";
const http = require("http");
const zlib = require("zlib");

function handler(event) {
  const headers = { "Content-Type": "application/json", "X-Function": "yes" };
  switch (event.path) {
    case "/event": // what the function sees
      return { statusCode: 200, statusDescription: "200 OK", isBase64Encoded: false, headers, body: JSON.stringify(event) };
    case "/cookies":
      return {
        statusCode: 201, isBase64Encoded: false, body: "made",
        multiValueHeaders: { "Set-Cookie": ["a=1", "b=2"], "Content-Type": ["text/plain"] },
        headers: { "Set-Cookie": "only=this", "Content-Type": "text/plain" },
      };
    case "/binary":
      return {
        statusCode: 200, isBase64Encoded: true, headers: { "content-type": "application/octet-stream", "content-encoding": "gzip" },
        body: zlib.gzipSync(Buffer.from("binary \u0000 content")).toString("base64"),
      };
    case "/body": // the body back, as it came
      return { statusCode: 200, isBase64Encoded: event.isBase64Encoded, headers: { "content-type": "x/y" }, body: event.body };
    case "/hop":
      return {
        statusCode: 200, isBase64Encoded: false, body: "hop",
        headers: { Connection: "close", "Transfer-Encoding": "chunked", "Content-Length": "999", "Keep-Alive": "x", "x-a": 5 },
      };
    case "/large":
      return { statusCode: 200, isBase64Encoded: false, headers: { "content-type": "text/plain" }, body: "x".repeat(1_200_000) };
    case "/almost":
      return { statusCode: 200, isBase64Encoded: false, headers: { "content-type": "text/plain" }, body: "x".repeat(1_000_000) };
    case "/throw":
      throw new Error("broken on purpose");
    default:
      return { statusCode: 404, headers: {}, isBase64Encoded: false };
  }
}

// What the endpoint does with its next invocations, as tests ask by PUT /behave: {"kind": ..., "times": n}; kinds are
// throttle, service, throw, garbage, cut, reset, silent, held (fine, when {"release": true} comes), held_throttle, a number
// (the function's own status) and fine. GET /behave tells what came since.
let behaviour = { kind: "fine", times: 0 };
let seen = [];
let held = []; // what goes on at a release
let open = 0; // invocations under way

function behave(request, response) {
  if (behaviour.times === 0) return false;
  behaviour.times -= 1;
  const json = { "content-type": "application/json" };
  switch (behaviour.kind) {
    case "throttle":
      response.writeHead(429, { ...json, "x-amzn-errortype": "TooManyRequestsException" });
      return response.end('{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}');
    case "held_throttle":
      return held.push(() => {
        behaviour = { kind: "throttle", times: 1 };
        behave(request, response);
      });
    case "service":
      response.writeHead(500, { ...json, "x-amzn-errortype": "ServiceException" });
      return response.end('{"Type":"Service","message":"internal error"}');
    case "throw":
      response.writeHead(200, { ...json, "x-amz-function-error": "Unhandled" });
      return response.end('{"errorMessage":"on purpose","errorType":"Error"}');
    case "garbage":
      return response.end("no JSON");
    case "cut": // within its answer
      response.writeHead(200, { ...json, "content-length": "1000" });
      response.write('{"statusCode":200');
      return setTimeout(() => response.destroy(), 20);
    case "reset":
      return request.socket.destroy();
    case "silent":
      return true;
    case "held":
      return held.push(() => response.end('{"statusCode":200,"body":"late"}'));
    case "fine":
      return false;
    default:
      return response.end(JSON.stringify({ statusCode: behaviour.kind, body: "mine" }));
  }
}

const server = http.createServer((request, response) => {
  open += 1;
  response.on("close", () => { open -= 1; });
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    if (request.url === "/behave") {
      if (request.method === "PUT") behaviour = JSON.parse(body);
      if (behaviour.forget) seen = [];
      delete behaviour.forget;
      if (behaviour.release) held.splice(0).forEach((go) => go());
      return response.end(JSON.stringify({ open: open - 1, seen }));
    }
    const call = { method: request.method, url: request.url, headers: request.headers, body: body.toString() };
    seen.push(call);
    if (behave(request, response)) return undefined;
    const status = request.headers.host.match(/^status-(\d+)/); // the service itself refuses
    if (status) {
      response.writeHead(Number(status[1]), { "content-type": "application/json" });
      return response.end('{"Message":"no"}');
    }
    const event = JSON.parse(body);
    const raw = event.queryStringParameters && event.queryStringParameters.raw;
    if (raw !== undefined) return response.end(decodeURIComponent(raw)); // whatever the test wants returned
    let text, fields = { "content-type": "application/json" };
    try {
      text = JSON.stringify(handler(event));
    } catch (error) {
      text = JSON.stringify({ errorMessage: error.message, errorType: "Error" });
      fields["x-amz-function-error"] = "Unhandled";
    }
    response.writeHead(200, fields);
    response.end(text);
  });
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
