// Both ends of gRPC as the npm package @grpc/grpc-js makes them; test_grpc.py judges.
//
//     node grpc.cjs serve [CERT KEY]    a server of the service below and of grpc.health.v1; prints its port
//     node grpc.cjs talk ADDRESS [CA]   a client; prints one line of JSON, what came of each case
//     node grpc.cjs silent ADDRESS      a client that says nothing for long, in calls that are not answered before it does
//
// Messages are plain bytes: no .proto file is needed.
const fs = require('fs');
const path = require('path');
const grpc = require(path.join(process.env.WEIR_NODE, 'node_modules', '@grpc', 'grpc-js'));

const same = bytes => bytes;
const method = (name, requestStream, responseStream) => ({
    path: `/weir.Test/${name}`, requestStream, responseStream,
    requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const service = {
    unary: method('Unary', false, false), upload: method('Upload', true, false),
    download: method('Download', false, true), chat: method('Chat', true, true),
    fail: method('Fail', false, false), hang: method('Hang', false, false), watch: method('Watch', false, false),
};
const hangs = {begun: 0, cancelled: 0, streams: 0};

function metadata(pairs) {
    const m = new grpc.Metadata();
    for (const [name, value] of Object.entries(pairs)) m.set(name, value);
    return m;
}

function serve(certificate, key) {
    const server = new grpc.Server({'grpc.max_receive_message_length': 32 << 20});
    server.addService(service, {
        unary: (call, reply) => {
            call.sendMetadata(metadata({'x-head': 'one'}));
            reply(null, call.request, metadata({'x-trailer': 'two', 'x-bytes-bin': Buffer.from([0, 255])}));
        },
        upload: (call, reply) => {
            let size = 0;
            ++hangs.streams;
            call.on('data', bytes => { size += bytes.length; });
            call.on('end', () => reply(null, Buffer.from(String(size))));
        },
        download: call => {
            const count = Number(call.request.toString());
            let i = 0;
            const more = () => {
                while (i < count)
                    if (!call.write(Buffer.alloc(10000, i++ & 255))) return call.once('drain', more);
                call.end();
            };
            more();
        },
        chat: call => { // no head before the first message
            ++hangs.streams;
            call.on('data', bytes => call.write(bytes));
            call.on('end', () => call.end());
        },
        fail: (call, reply) => reply({code: grpc.status.FAILED_PRECONDITION, details: 'nö: 100%'}),
        hang: call => { ++hangs.begun; call.on('cancelled', () => { ++hangs.cancelled; }); },
        watch: (call, reply) => reply(null, Buffer.from(JSON.stringify(hangs))),
    });
    let serving = 1;
    server.addService({check: {...method('', false, false), path: '/grpc.health.v1.Health/Check'}}, {
        check: (call, reply) => reply(null, Buffer.from([8, serving])),
    });
    process.on('SIGUSR2', () => { serving = 2; }); // NOT_SERVING
    const credentials = certificate === undefined ? grpc.ServerCredentials.createInsecure()
        : grpc.ServerCredentials.createSsl(null, [{cert_chain: fs.readFileSync(certificate), private_key: fs.readFileSync(key)}]);
    server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
        if (error) throw error;
        console.log(port);
    });
}

const call = run => new Promise(resolve => {
    const seen = {};
    const done = (error, bytes) => {
        seen.code = error ? error.code : 0;
        seen.details = error ? error.details : '';
        seen.size = bytes ? bytes.length : 0;
        seen.text = bytes && bytes.length < 1000 ? bytes.toString() : '';
    };
    const c = run(done);
    c.on('metadata', m => { seen.head = m.getMap(); });
    c.on('status', status => {
        seen.status = status.code;
        seen.trailers = status.metadata.getMap();
        setImmediate(() => resolve(seen));
    });
    c.on('error', () => {});
});

async function stream(c, pieces) {
    const got = [];
    let status;
    const ended = new Promise(resolve => {
        c.on('data', bytes => got.push(bytes));
        c.on('error', () => {});
        c.on('status', s => { status = s; resolve(); });
    });
    for (const piece of pieces) {
        const before = got.length;
        c.write(piece);
        while (got.length === before && status === undefined) // strictly in turns
            await new Promise(resolve => setTimeout(resolve, 1));
    }
    c.end();
    await ended;
    return {code: status.code, sizes: got.map(bytes => bytes.length), same: got.every((bytes, i) => bytes.equals(pieces[i]))};
}

// What the server says of the calls that hang, once that is as it shall be or 10 s have passed.
async function watch(client, condition) {
    for (let i = 0; ; ++i) {
        const seen = JSON.parse((await call(done => client.watch(Buffer.from('x'), done))).text);
        if (condition(seen) || i === 200) return seen;
        await new Promise(resolve => setTimeout(resolve, 50));
    }
}

async function talk(address, ca) {
    const credentials = grpc.credentials.createSsl(fs.readFileSync(ca));
    const client = new (grpc.makeGenericClientConstructor(service, 'Test'))(address, credentials, {
        'grpc.max_receive_message_length': 32 << 20, 'grpc.enable_retries': 0,
    });
    const results = {};
    results.unary = await call(done => client.unary(Buffer.from('hello'), done));
    results.empty = await call(done => client.unary(Buffer.alloc(0), done));
    results.large = await call(done => client.unary(Buffer.alloc(3000000, 7), done));
    results.upload = await call(done => {
        const c = client.upload(done);
        for (let i = 0; i < 300; ++i) c.write(Buffer.alloc(10000));
        c.end();
        return c;
    });
    results.download = await new Promise(resolve => {
        let size = 0, count = 0;
        const c = client.download(Buffer.from('500'));
        c.on('data', bytes => { size += bytes.length; ++count; });
        c.on('error', () => {});
        c.on('status', s => resolve({code: s.code, size, count}));
    });
    results.chat = await stream(client.chat(), [1, 10, 70000, 3].map(n => Buffer.alloc(n, n & 255)));
    results.fail = await call(done => client.fail(Buffer.from('x'), done));
    for (const limit of [400, 4000, 20000]) { // who stands still may take up a call when its deadline is over
        const begun = Date.now();
        results.deadline = await call(done => client.hang(Buffer.from('x'), {deadline: begun + limit}, done));
        Object.assign(results.deadline, {ms: Date.now() - begun, limit});
        const seen = await watch(client, hangs => hangs.begun > 0 && hangs.cancelled === hangs.begun);
        results.cancelledByDeadline = seen.begun > 0 && seen.cancelled === seen.begun;
        if (results.cancelledByDeadline) break;
    }
    const {begun} = await watch(client, () => true);
    const hanging = client.hang(Buffer.from('x'), () => {});
    hanging.on('error', () => {});
    await watch(client, hangs => hangs.begun > begun);
    hanging.cancel();
    const {begun: all, cancelled} = await watch(client, hangs => hangs.cancelled === begun + 1);
    results.cancelled = all === begun + 1 && cancelled === all;
    results.nowhere = await call(done => client.makeUnaryRequest('/weir.Nowhere/Call', same, same, Buffer.from('x'), done));
    results.dead = await call(done => client.makeUnaryRequest('/weir.Dead/Call', same, same, Buffer.from('x'), done));
    console.log(JSON.stringify(results));
    client.close();
}

// Both kinds of call whose client speaks first, silent for longer than two calls to a group that is not of gRPC live.
async function silent(address) {
    const client = new (grpc.makeGenericClientConstructor(service, 'Test'))(address, grpc.credentials.createInsecure(), {
        'grpc.keepalive_time_ms': 100, 'grpc.enable_retries': 0,
    });
    let upload;
    const uploaded = call(done => upload = client.upload(done));
    const chat = client.chat();
    const results = {};
    results.seen = (await watch(client, hangs => hangs.streams >= 2)).streams;
    results.others = [];
    for (let i = 0; i < 2; ++i)
        results.others.push(await call(done => client.upload(metadata({'x-group': 'plain'}), done)));
    upload.write(Buffer.alloc(1000));
    upload.end();
    results.upload = await uploaded;
    results.chat = await stream(chat, [Buffer.from('late')]);
    console.log(JSON.stringify(results));
    client.close();
}

const [action, ...rest] = process.argv.slice(2);
({serve, talk, silent})[action](...rest);
