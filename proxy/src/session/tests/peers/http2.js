// A server and a client of HTTP/2 made of Node: `server PORT` says which requests it read, `client PORT` what became of its own.
const http2 = require('http2');
const [mode, port] = process.argv.slice(2);
const sum = (bytes) => bytes.reduce((total, byte) => total + byte, 0);

function serve() {
    const server = http2.createServer({ settings: { enableConnectProtocol: true } });
    server.on('stream', (stream, headers) => {
        const [method, path] = [headers[':method'], headers[':path']];
        console.log('READ', method, path);
        stream.on('error', () => {});
        if (method === 'CONNECT') {
            stream.respond({ ':status': 200 });
            return stream.pipe(stream);
        }
        const big = path.match(/^\/ok\/big\/(\d+)$/);
        if (big) {
            stream.respond({ ':status': 200 });
            return stream.end(Buffer.alloc(Number(big[1]), 'x'));
        }
        let [length, total, trailer] = [0, 0, '-'];
        stream.on('data', (part) => { length += part.length; total += sum(part); });
        stream.on('trailers', (trailers) => { trailer = trailers['x-end'] ?? '-'; });
        stream.on('end', () => {
            stream.respond({ ':status': 200 }, { waitForTrailers: true });
            stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': trailer }));
            stream.end(`${length} ${total} ${(headers['x-large'] ?? '').length}`);
        });
        if (path === '/ok/last') {
            const session = stream.session;
            stream.on('close', () => session.goaway());
        }
    });
    server.listen(port, '127.0.0.1');
}

async function ask() {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const request = (headers, body, trailers) => new Promise((resolve) => {
        const stream = session.request(headers, { waitForTrailers: !!trailers, endStream: false });
        let [status, text, end] = [0, [], '-'];
        stream.on('response', (answer) => { status = answer[':status']; });
        stream.on('trailers', (trailers) => { end = trailers['x-end'] ?? '-'; });
        stream.on('data', (part) => text.push(part));
        stream.on('error', (error) => { if (!status) resolve(['error', error.code, '-']); });
        stream.on('close', () => resolve([status, Buffer.concat(text), end]));
        stream.on('wantTrailers', () => stream.sendTrailers(trailers));
        stream.end(body);
    });
    const get = (path, more) => request({ ':path': path, ...more });
    const post = (path, body, trailers) => request({ ':path': path, ':method': 'POST', ...(trailers && { trailer: 'x-end' }) }, body, trailers);
    const say = (what, [status, body, end]) =>
        console.log(what, status, body.length > 60 ? body.length : status === 403 ? 'denied' : String(body), end);
    const short = (answer) => answer[0] === 403 ? [403, JSON.parse(answer[1]).error === 'denied by bulkhead' ? 'denied' : 'other', '-'] : answer;
    say('get', await get('/ok/1'));
    say('denied', short(await get('/no/1')));
    const mixed = await Promise.all([...Array(30).keys()].map((at) => get(at % 3 ? `/ok/${at}` : `/no/${at}`)));
    console.log('mixed', mixed.filter((one) => one[0] === 200).length, mixed.filter((one) => one[0] === 403).length);
    const body = Buffer.alloc(10 << 20, 'y');
    say('upload', await post('/ok/up', body));
    say('download', await get(`/ok/big/${10 << 20}`));
    say('denied upload', short(await post('/no/up', body.subarray(0, 1 << 20))));
    say('large', await get('/ok/large', { 'x-large': 'z'.repeat(12000) }));
    say('trailers', await post('/ok/trailers', 'body', { 'x-end': 'end' }));
    const away = new Promise((resolve) => session.once('goaway', resolve));
    say('last', await get('/ok/last'));
    const closed = new Promise((resolve) => session.once('close', resolve));
    await Promise.race([away, closed]);
    console.log('gone away');
    session.close();
}

if (mode === 'server') serve(); else ask();
