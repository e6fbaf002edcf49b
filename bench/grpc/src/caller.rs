//! The gRPC client, written as tonic's generator would write it. All calls use one connection.

use std::error::Error;
use std::time::Instant;

use isomer_bench_programs::serve_runs;
use isomer_bench_workload::{Callee, Digest, Outcome, Work, worker};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::messages::{AddReply, AddRequest, AllRequest, Bytes, Item, Items, LookupRequest};
use crate::service::{ADD, ALL, ECHO, LOOKUP};
use crate::{TLS_NAME, Tls};

/// Serves `GET /run?…` until the process exits.
pub(crate) async fn serve(address: String, tls: Option<Tls>) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::from_shared(address)?;
    if let Some(Tls { ca, identity }) = tls {
        let config = ClientTlsConfig::new().domain_name(TLS_NAME).ca_certificate(ca).identity(identity);
        endpoint = endpoint.tls_config(config)?;
    }
    let client = Client(Grpc::new(endpoint.connect().await?));
    serve_runs(|url| println!("{url}"), move |query| run(client.clone(), query)).await?;
    Ok(())
}

async fn run(mut client: Client, query: String) -> Result<String, String> {
    let work = Work::parse(&query)?;
    let began = Instant::now();
    let checksum = if work.concurrency == 1 {
        worker(&mut client, work, 0).await
    } else {
        let tasks = (0..work.concurrency).map(|first| {
            let mut client = client.clone();
            tokio::spawn(async move { worker(&mut client, work, first).await })
        });
        let mut checksum = 0u64;
        for task in tasks.collect::<Vec<_>>() {
            checksum = checksum.wrapping_add(task.await.map_err(|error| error.to_string())?);
        }
        checksum
    };
    let ns = u64::try_from(began.elapsed().as_nanos()).map_err(|error| error.to_string())?;
    Ok(Outcome { ns, checksum }.to_string())
}

#[derive(Clone)]
struct Client(Grpc<Channel>);

impl Client {
    async fn unary<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let reply = self.0.unary(Request::new(message), PathAndQuery::from_static(path), codec).await?;
        Ok(reply.into_inner())
    }
}

/// If a call fails, its result counts as a wrong one, so that the checksum does not match.
impl Callee for Client {
    async fn add(&mut self, a: u32, b: u32) -> u32 {
        let reply: Result<AddReply, Status> = self.unary(ADD, AddRequest { a, b }).await;
        reply.map_or(0, |reply| reply.sum)
    }

    async fn echo(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let reply: Result<Bytes, Status> = self.unary(ECHO, Bytes { bytes }).await;
        reply.map(|reply| reply.bytes).unwrap_or_default()
    }

    async fn lookup(&mut self, key: &str) -> Digest {
        let mut digest = Digest::default();
        let reply: Result<Item, Status> = self.unary(LOOKUP, LookupRequest { key: key.to_owned() }).await;
        match reply {
            Ok(item) => item.add_to(&mut digest),
            Err(status) => digest.refusal(status.message()),
        }
        digest
    }

    async fn all(&mut self, count: u32) -> Digest {
        let mut digest = Digest::default();
        let reply: Result<Items, Status> = self.unary(ALL, AllRequest { count }).await;
        if let Ok(Items { items }) = reply {
            items.iter().for_each(|item| item.add_to(&mut digest));
        }
        digest
    }
}
