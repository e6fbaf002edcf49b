//! Looks up the IP addresses of host names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::future::BoxFuture;

/// Looks up the IP addresses of host names. The platform uses [`SystemResolver`]; tests use other implementations.
pub trait Resolve: Send + Sync + 'static {
    /// Returns all addresses of `name`, in the order in which they should be tried.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system. Resolves `localhost` and the names below it to loopback itself, because not
/// every operating system does this.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // RFC 6761, section 6.3, requires that these names resolve to loopback. Some operating systems do not
            // follow this requirement, and send names below `localhost` to a name server.
            if name == "localhost" || name.ends_with(".localhost") {
                return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
            }
            let name = name.to_owned();
            // Runs the look-up in a task. The first poll of a look-up starts the thread that calls the operating
            // system. This thread inherits the priority of the polling thread, so a low-priority thread that runs a
            // guest must not poll first.
            let lookup = async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            };
            tokio::spawn(lookup).await.map_err(io::Error::other)?
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
