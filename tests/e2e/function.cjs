// A Lambda function as the runtime interface emulator serves it: an Invoke endpoint over HTTP. The function answers by
// the event's path; stdout tells, line by line, what the endpoint got.
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

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    console.log(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, body: body.toString() }));
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
