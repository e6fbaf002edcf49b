//! The server's side of one connection: a task that reads calls, starts them, and writes replies.
//!
//! The connection's task reads the calls, because it receives their pieces anyway. It polls each complete call once. If
//! the result is available after this poll, as for calls of a few microseconds, the task writes the reply together with
//! the other replies of the same poll of the connection, and wakes no other task or thread. Otherwise the call
//! continues in a new task. A call that computes for long without waiting would delay the connection's other calls. So
//! the first polls of calls are measured: after a first poll that takes longer than [`FIRST_POLL_MAX`], the next
//! [`SPAWNED_CALLS`] calls start in new tasks, and later calls are polled by the connection's task again.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::cork::{Cork, CorkHandle, cork};
use crate::keep_alive::KeepAlive;
use crate::limits::http2;
use crate::payload::Payload;
use crate::response_write::ResponseWrite;
use crate::server_call::{CallServer, ReadyCall, read_stream, run};
use crate::stream::LinkStream;

/// The time that a call's first poll on the connection's task may take. After a longer poll, the next calls start in
/// new tasks.
const FIRST_POLL_MAX: Duration = Duration::from_micros(100);

/// The number of calls that start in new tasks after a first poll that took too long.
const SPAWNED_CALLS: u32 = 64;

/// Serves a connection until it ends. When `stop` becomes true, accepts no further calls and ends after the last call.
pub(crate) async fn serve(stream: LinkStream, server: Arc<CallServer>, stop: watch::Receiver<bool>) {
    let limits = &server.limits;
    let (corked, handle) = cork(stream);
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(http2::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(http2::CONNECTION_WINDOW_BYTES)
        .max_frame_size(http2::FRAME_BYTES_MAX)
        .max_header_list_size(http2::HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(http2::STREAMS_MAX)
        .max_concurrent_reset_streams(http2::STREAMS_MAX as usize)
        // A client that disconnects resets the streams of all its calls together. h2's default limit would treat this
        // as an attack.
        .max_pending_accept_reset_streams(http2::STREAMS_MAX as usize);
    let mut handshake = std::pin::pin!(builder.handshake(corked));
    let handshake = poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx);
        // The buffer contains the server's settings, and the client may wait for them before it sends anything.
        if polled.is_pending() && matches!(handle.poll_drain(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(None);
        }
        polled.map(Some)
    });
    let mut connection = match timeout(limits.handshake_timeout, handshake).await {
        Ok(Some(Ok(connection))) => connection,
        Ok(Some(Err(error))) => return isomer_telemetry::debug!(%error, "a peer does not use HTTP/2"),
        Ok(None) | Err(_) => return isomer_telemetry::debug!("a peer did not start HTTP/2 in time"),
    };
    let ping_pong = connection.ping_pong().expect("`ping_pong` is called once");
    let keep_alive = KeepAlive::new(ping_pong, limits.keep_alive_interval, limits.keep_alive_timeout);
    let reading = FuturesUnordered::new();
    ServerConnection { connection, handle, keep_alive, server, reading, writing: Vec::new(), spawned_calls: 0 }
        .run(stop)
        .await;
}

struct ServerConnection {
    connection: server::Connection<Cork<LinkStream>, Payload>,
    handle: CorkHandle<LinkStream>,
    keep_alive: KeepAlive,
    server: Arc<CallServer>,
    /// The calls that have not arrived completely: at most one per stream.
    reading: FuturesUnordered<BoxFuture<'static, Option<ReadyCall>>>,
    /// The replies that were started in this poll.
    writing: Vec<ResponseWrite>,
    /// The number of next calls that start in a new task, instead of being polled first by the connection's task. Set
    /// when the first poll of a call has taken too long.
    spawned_calls: u32,
}

impl ServerConnection {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut stop = std::pin::pin!(async move {
            // A dropped sender means that the server has ended, which has the same effect as `true`.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let mut is_stopping = false;
        poll_fn(move |cx| {
            if self.keep_alive.poll_dead(cx).is_ready() {
                isomer_telemetry::debug!("a peer no longer responds");
                return Poll::Ready(());
            }
            if !is_stopping && stop.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                self.connection.graceful_shutdown();
            }
            self.poll_connection(cx)
        })
        .await;
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin_reading(request, respond, cx),
                Poll::Ready(Some(Err(error))) => {
                    isomer_telemetry::debug!(%error, "a connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if self.poll_reading(cx) => {}
                Poll::Pending => break,
            }
        }
        // Most replies are already written. For each unfinished one, a new task waits.
        for writing in self.writing.drain(..).filter(|writing| !writing.is_finished()) {
            tokio::spawn(writing.finish());
        }
        match self.handle.poll_drain(cx) {
            Poll::Ready(Err(error)) => {
                isomer_telemetry::debug!(%error, "a connection ended");
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }

    fn begin_reading(
        &mut self,
        request: http::Request<RecvStream>,
        respond: SendResponse<Payload>,
        cx: &mut Context<'_>,
    ) {
        let mut reading = Box::pin(read_stream(self.server.clone(), request, respond));
        match reading.as_mut().poll(cx) {
            Poll::Ready(Some(ready)) => self.begin_call(ready, cx),
            Poll::Ready(None) => {}
            Poll::Pending => self.reading.push(reading),
        }
    }

    /// Polls the calls that have not arrived completely. Returns whether one of them is complete or has failed. If so,
    /// the caller must poll again.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> bool {
        match self.reading.poll_next_unpin(cx) {
            Poll::Ready(Some(Some(ready))) => self.begin_call(ready, cx),
            Poll::Ready(Some(None)) => {}
            Poll::Ready(None) | Poll::Pending => return false,
        }
        true
    }

    fn begin_call(&mut self, ready: ReadyCall, cx: &mut Context<'_>) {
        let mut call = Box::pin(run(self.server.clone(), ready));
        if self.spawned_calls > 0 {
            self.spawned_calls -= 1;
            tokio::spawn(finish(call));
            return;
        }
        let before = Instant::now();
        match call.as_mut().poll(cx) {
            Poll::Ready(writing) => self.writing.extend(writing),
            Poll::Pending => {
                tokio::spawn(finish(call));
            }
        }
        if before.elapsed() > FIRST_POLL_MAX {
            self.spawned_calls = SPAWNED_CALLS;
        }
    }
}

/// Runs a call and waits until its reply is written.
async fn finish(call: impl Future<Output = Option<ResponseWrite>>) {
    if let Some(writing) = call.await {
        writing.finish().await;
    }
}
