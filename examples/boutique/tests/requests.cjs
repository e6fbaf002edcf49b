// Which requests of a page have failed.
"use strict";

/// Returns the description of a request that failed, or `undefined` if a navigation has cancelled the request for the icon of the page before. The
/// browser requests the icon after the event `load`, so a test cannot wait for it. All other requests end before a page is left.
function failureOf(request) {
  const { errorText } = request.failure();
  const isIcon = new URL(request.url()).pathname === "/static/favicon.svg";
  return isIcon && errorText === "net::ERR_ABORTED" ? undefined : `${errorText} ${request.url()}`;
}

module.exports = { failureOf };
