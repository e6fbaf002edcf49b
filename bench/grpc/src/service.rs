//! The gRPC service, written as tonic's generator would write it. It selects a function by the path of the request.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use isomer_bench_workload::answers;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::messages::{AddReply, AddRequest, AllRequest, Bytes, Item, Items, LookupRequest};

/// The request paths of the functions.
pub(crate) const ADD: &str = "/guest.seambench.Calls/Add";
pub(crate) const ECHO: &str = "/guest.seambench.Calls/Echo";
pub(crate) const LOOKUP: &str = "/guest.seambench.Calls/Lookup";
pub(crate) const ALL: &str = "/guest.seambench.Calls/All";

/// The gRPC service. The functions that its methods call never wait, so they are not `async`.
#[derive(Clone)]
pub(crate) struct Calls;

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            ADD => respond(request, |AddRequest { a, b }| Ok(AddReply { sum: answers::add(a, b) })),
            ECHO => respond(request, |bytes: Bytes| Ok(bytes)),
            LOOKUP => respond(request, |LookupRequest { key }| {
                answers::lookup(&key).map(Item::from).map_err(Status::not_found)
            }),
            ALL => respond(request, |AllRequest { count }| {
                Ok(Items { items: answers::all(count).map(Item::from).collect() })
            }),
            _ => Box::pin(ready(Ok(Status::unimplemented("there is no such function").into_http()))),
        }
    }
}

fn respond<Q, A, F>(request: http::Request<Body>, function: F) -> BoxFuture<http::Response<Body>, Infallible>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: FnMut(Q) -> Result<A, Status> + Send + 'static,
{
    Box::pin(async move { Ok(Grpc::new(ProstCodec::<A, Q>::default()).unary(Function(function), request).await) })
}

struct Function<F>(F);

impl<Q, A, F: FnMut(Q) -> Result<A, Status>> UnaryService<Q> for Function<F> {
    type Response = A;
    type Future = Ready<Result<Response<A>, Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        ready((self.0)(request.into_inner()).map(Response::new))
    }
}
