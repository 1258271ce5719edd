// What both halves of the pair share: JSON in, JSON out, and the small paths of the first contract.
'use strict';
const http = require('node:http');

// serve answers POST path with what decide returns: [status, body]. Everything else is 404.
exports.serve = (port, path, decide) => {
  http.createServer((req, res) => {
    const answer = (status, body) => {
      res.writeHead(status, { 'Content-Type': 'application/json' });
      res.end(JSON.stringify(body));
    };
    if (req.method === 'GET' && req.url === '/health') return answer(200, { status: 'ok' });
    if (req.method !== 'POST' || req.url !== path) return answer(404, { error: 'not_found' });
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', async () => {
      let body;
      try {
        body = JSON.parse(Buffer.concat(chunks).toString());
      } catch {
        return answer(400, { error: 'invalid' });
      }
      try {
        answer(...(await decide(body)));
      } catch {
        answer(503, { error: 'unavailable' });
      }
    });
  }).listen(port, '127.0.0.1');
};
