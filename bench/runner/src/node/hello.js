// A Node.js server that responds with a greeting. Without a node, there would be one such process for each app.
const server = require("node:http").createServer((_request, response) => {
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.end("hello from Node.js\n");
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
