// Both ends of WebSocket as the npm package ws makes them; test_websocket.py judges.
//
//     node websocket.cjs serve       an echo server; prints its port
//     node websocket.cjs talk URL    a client of an echo server; prints one line of JSON, what came of each case
const path = require('path');
const {WebSocket, WebSocketServer} = require(path.join(process.env.WEIR_NODE, 'node_modules', 'ws'));

function serve() {
    const server = new WebSocketServer({
        host: '127.0.0.1', port: 0, maxPayload: 64 << 20, perMessageDeflate: {threshold: 0},
        handleProtocols: protocols => protocols.has('chat') ? 'chat' : false,
    });
    server.on('connection', (socket, request) => {
        const url = new URL(request.url, 'http://x');
        if (url.pathname === '/close')
            return socket.close(Number(url.searchParams.get('code')), url.searchParams.get('why'));
        if (url.pathname === '/terminate')
            return socket.terminate();
        if (url.pathname === '/burst')
            for (let i = 0; i < 1000; ++i)
                socket.send(String(i));
        socket.on('message', (data, isBinary) => socket.send(data, {binary: isBinary}));
        socket.on('error', () => {});
    });
    server.on('listening', () => console.log(server.address().port));
}

function open(url, options = {}, protocols = []) {
    const socket = new WebSocket(url, protocols, {maxPayload: 64 << 20, rejectUnauthorized: false, ...options});
    const inbox = [], waiting = [];
    socket.on('message', (data, isBinary) => {
        const message = {data, isBinary};
        waiting.length ? waiting.shift()(message) : inbox.push(message);
    });
    socket.next = () => inbox.length ? Promise.resolve(inbox.shift()) : new Promise(done => waiting.push(done));
    socket.closed = new Promise(done => socket.on('close', (code, reason) => done([code, reason.toString()])));
    return new Promise((done, fail) => {
        socket.on('open', () => done(socket));
        socket.on('error', fail);
        socket.on('unexpected-response', (_, response) => fail(new Error(`status ${response.statusCode}`)));
    });
}

function check(condition, what) {
    if (!condition)
        throw new Error(what);
}

async function echo(socket, data, isBinary) {
    socket.send(data, {binary: isBinary});
    const answer = await socket.next();
    check(Buffer.compare(answer.data, Buffer.from(data)) === 0 && answer.isBinary === isBinary, `echo of ${data.length}`);
}

const cases = {
    async 'messages of every length of frame'(base) {
        const socket = await open(base + '/', {perMessageDeflate: false});
        for (const size of [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]) {
            await echo(socket, Buffer.alloc(size, 'x').toString(), false);
            await echo(socket, require('crypto').randomBytes(size), true);
        }
        socket.close();
        await socket.closed;
    },
    async 'compressed messages'(base) {
        const socket = await open(base + '/', {perMessageDeflate: {threshold: 0}});
        check(socket.extensions.includes('permessage-deflate'), 'the extension is agreed upon');
        for (const size of [0, 1, 1000, 1 << 20])
            await echo(socket, 'abc'.repeat(size), false);
        await echo(socket, require('crypto').randomBytes(1 << 20), true);
        socket.close();
        await socket.closed;
    },
    async 'fragments with a ping between them'(base) {
        const socket = await open(base + '/', {perMessageDeflate: false});
        const pong = new Promise(done => socket.on('pong', data => done(data.toString())));
        socket.send('one ', {fin: false});
        socket.send('two ', {fin: false});
        socket.ping('are you there');
        check(await pong === 'are you there', 'the pong');
        socket.send('three', {fin: true});
        check((await socket.next()).data.toString() === 'one two three', 'the message');
        socket.close();
        await socket.closed;
    },
    async 'a thousand messages each way at once'(base) {
        const socket = await open(base + '/burst');
        for (let i = 0; i < 1000; ++i)
            socket.send(String(i));
        for (let round = 0; round < 2; ++round)
            for (let i = 0; i < 1000; ++i)
                check((await socket.next()).data.toString() === String(i), `message ${i}`);
        socket.close();
        await socket.closed;
    },
    async 'close codes of the server'(base) {
        for (const code of [1000, 1001, 1011, 3000, 4999]) {
            const socket = await open(`${base}/close?code=${code}&why=because`);
            const [got, why] = await socket.closed;
            check(got === code && why === 'because', `${code} came as ${got} ${why}`);
        }
    },
    async 'close codes of the client'(base) {
        const socket = await open(base + '/');
        socket.close(4242, 'enough');
        const [code, why] = await socket.closed;
        check(code === 4242 && why === 'enough', 'the server answers with the same');
    },
    async 'a server that ends without a word'(base) {
        const socket = await open(base + '/terminate');
        check((await socket.closed)[0] === 1006, 'an abnormal end');
    },
    async 'a subprotocol'(base) {
        const socket = await open(base + '/', {}, ['mqtt', 'chat']);
        check(socket.protocol === 'chat', socket.protocol);
        socket.terminate();
        await socket.closed;
    },
};

async function talk(base) {
    const outcome = {};
    for (const [name, run] of Object.entries(cases)) {
        if (process.argv.length > 4 && !process.argv.slice(4).includes(name))
            continue;
        try {
            await run(base);
            outcome[name] = 'ok';
        } catch (error) {
            outcome[name] = String(error);
        }
    }
    console.log(JSON.stringify(outcome));
    process.exit(0);
}

process.argv[2] === 'serve' ? serve() : talk(process.argv[3]);
