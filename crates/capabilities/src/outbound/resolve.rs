//! Names to addresses.

use std::io;
use std::net::IpAddr;

use futures::future::BoxFuture;

/// Looks up names. The platform's own is [`SystemResolver`]; tests bring theirs.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `name`, best first.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let name = name.to_owned();
            // By a task of its own: the thread that asks the system is started by the thread that polls this, which may be a guest's thread of low
            // priority, and would have that priority for good.
            let look = async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            };
            tokio::spawn(look).await.map_err(io::Error::other)?
        })
    }
}
