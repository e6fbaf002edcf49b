//! Looking up the addresses of names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::future::BoxFuture;

/// Looks up names. The platform uses [`SystemResolver`]; tests use other implementations.
pub trait Resolve: Send + Sync + 'static {
    /// Returns all addresses of `name`, the best first.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system. Resolves `localhost` and the names below it to this machine, which not every
/// operating system does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // RFC 6761, section 6.3; an operating system may ask a name server for names below `localhost`.
            if name == "localhost" || name.ends_with(".localhost") {
                return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
            }
            let name = name.to_owned();
            // The look-up runs in a separate task. The thread that asks the system is started by the thread that polls
            // the look-up, and keeps its priority forever: it must not be a guest's thread of low priority.
            let look = async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            };
            tokio::spawn(look).await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_and_names_below_it_are_this_machine() {
        for name in ["localhost", "api.localhost"] {
            let found = SystemResolver.resolve(name).await.unwrap();
            assert!(found.iter().all(IpAddr::is_loopback) && found.len() == 2, "{name}: {found:?}");
        }
    }
}
