// A server of Node.js that says hello: what somebody would start for each app instead.
const server = require("node:http").createServer((_request, response) => {
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.end("hello from Node.js\n");
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
