//! One request of the client to a node, and its response, over a new connection.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

use crate::client::{Client, ClientBody, ClientError, ClientStream, empty};
use crate::node_address::NodeAddress;

/// The maximum time for connecting to the node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum time until the head of a response has arrived. After that, the same time applies to the body. It is long
/// because the node compiles components during a deployment.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The maximum size in bytes of a response's body.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// The maximum size in bytes of a line in a response.
const LINE_BYTES_MAX: usize = 1 << 20;

impl Client {
    pub(crate) async fn get<A: DeserializeOwned>(&self, path: String) -> Result<A, ClientError> {
        self.ask(Method::GET, path, None, empty()).await
    }

    pub(crate) async fn json<A: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        question: &impl Serialize,
    ) -> Result<A, ClientError> {
        let text = serde_json::to_vec(question).expect("a request is plain data");
        self.ask(method, path, Some("application/json"), Full::new(Bytes::from(text)).boxed_unsync()).await
    }

    pub(crate) async fn json_only(
        &self,
        method: Method,
        path: String,
        question: &impl Serialize,
    ) -> Result<(), ClientError> {
        let text = serde_json::to_vec(question).expect("a request is plain data");
        let response = self.send(method, path, Some("application/json"), Full::new(Bytes::from(text)).boxed_unsync());
        let response = response.await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refused(response).await) }
    }

    pub(crate) async fn nothing(&self, method: Method, path: String, body: ClientBody) -> Result<(), ClientError> {
        let media_type = (method == Method::PUT).then_some("application/octet-stream");
        let response = self.send(method, path, media_type, body).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refused(response).await) }
    }

    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        media_type: Option<&'static str>,
        body: ClientBody,
    ) -> Result<A, ClientError> {
        let response = self.send(method, path, media_type, body).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let bytes = self.whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.not_a_node(status))
    }

    pub(crate) async fn refused(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        match self.whole(response).await {
            Err(error) => error,
            Ok(bytes) => serde_json::from_slice(&bytes).map_or_else(|_| self.not_a_node(status), ClientError::Problem),
        }
    }

    pub(crate) async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let reading = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect();
        match tokio::time::timeout(RESPONSE_TIMEOUT, reading).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(self.broken(io::Error::other(error))),
            Err(_) => Err(self.broken(io::ErrorKind::TimedOut.into())),
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: String,
        media_type: Option<&'static str>,
        body: ClientBody,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(AUTHORIZATION, self.token.header());
        request = request.header(
            HOST,
            match &self.node {
                NodeAddress::Tcp(authority) => authority.as_str(),
                NodeAddress::Unix(_) => "localhost",
            },
        );
        if let Some(media_type) = media_type {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let request = request.body(body).expect("a path consists of a route and checked names");
        let response = async {
            match &self.node {
                NodeAddress::Tcp(authority) => {
                    let stream = self.connected(TcpStream::connect(authority)).await?;
                    let _ = stream.set_nodelay(true);
                    self.exchange(stream, request).await
                }
                NodeAddress::Unix(path) => {
                    let stream = self.connected(UnixStream::connect(path)).await?;
                    self.exchange(stream, request).await
                }
            }
        };
        let in_time = tokio::time::timeout(RESPONSE_TIMEOUT, response).await;
        in_time.unwrap_or_else(|_| Err(self.broken(io::ErrorKind::TimedOut.into())))
    }

    pub(crate) async fn connected<S>(&self, connecting: impl Future<Output = io::Result<S>>) -> Result<S, ClientError> {
        let in_time = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let connected = in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| ClientError::Unreachable { node: self.node.to_string(), source })
    }

    pub(crate) async fn exchange<S>(
        &self,
        stream: S,
        request: Request<ClientBody>,
    ) -> Result<Response<Incoming>, ClientError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| self.broken(io::Error::other(error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // hyper reads and writes the connection only while this future is polled. The task ends when the body of the
        // response has been read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a node ended");
            }
        });
        sender.send_request(request).await.map_err(broken)
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Broken { node: self.node.to_string(), source }
    }

    fn not_a_node(&self, status: StatusCode) -> ClientError {
        ClientError::NotANode { node: self.node.to_string(), status: status.as_u16() }
    }

    /// Returns the items of a response that has one JSON object per line.
    pub(crate) fn lines<T: DeserializeOwned + Send + 'static>(&self, body: Incoming) -> ClientStream<T> {
        let client = self.clone();
        let state = (body.into_data_stream(), Vec::new(), VecDeque::new());
        let next = move |(mut data, mut rest, mut ready): (_, Vec<u8>, VecDeque<T>)| {
            let client = client.clone();
            async move {
                loop {
                    if let Some(line) = ready.pop_front() {
                        return Some((Ok(line), (data, rest, ready)));
                    }
                    let chunk: Bytes = match http_body_util::BodyDataStream::next(&mut data).await? {
                        Ok(chunk) => chunk,
                        Err(error) => return Some((Err(client.broken(io::Error::other(error))), (data, rest, ready))),
                    };
                    rest.extend_from_slice(&chunk);
                    if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                        let whole: Vec<u8> = rest.drain(..=end).collect();
                        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                        match lines.map(serde_json::from_slice).collect::<Result<VecDeque<T>, _>>() {
                            Ok(lines) => ready = lines,
                            Err(error) => return Some((Err(client.broken(error.into())), (data, rest, ready))),
                        }
                    }
                    if rest.len() > LINE_BYTES_MAX {
                        let error = io::Error::other("a line of the response is longer than the maximum");
                        rest.clear();
                        return Some((Err(client.broken(error)), (data, rest, ready)));
                    }
                }
            }
        };
        Box::pin(stream::unfold(state, next))
    }
}
