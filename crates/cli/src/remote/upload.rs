//! Uploads the parts of a release that the node does not have.

use std::collections::BTreeMap;

use bytes::Bytes;
use isomer_admin::{BLOB_BYTES_MAX, Client};
use isomer_api::Release;
use isomer_console::{CliError, Console};
use isomer_ids::Digest;

use crate::remote::node::client_error;
use crate::remote::show::size;

/// Uploads the parts of a release that the node does not have. Returns the number of these parts.
pub(crate) async fn upload(
    client: &Client,
    release: &Release,
    bytes: &BTreeMap<Digest, Bytes>,
    console: &Console,
) -> Result<usize, CliError> {
    let largest = bytes.values().map(Bytes::len).max().unwrap_or(0) as u64;
    if largest > BLOB_BYTES_MAX {
        return Err(CliError::failed(
            format!(
                "a file of the app has a size of {}, but a node accepts at most {}",
                size(largest),
                size(BLOB_BYTES_MAX)
            ),
            "strip debug information, or serve large files from elsewhere",
        ));
    }
    let missing = client.missing(release).await.map_err(client_error(console))?;
    let missing: Vec<(&Digest, &Bytes)> =
        missing.digests.iter().filter_map(|digest| Some((digest, bytes.get(digest)?))).collect();
    let total = missing.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let bar = console.upload(total);
    for (digest, bytes) in &missing {
        let bar = bar.clone();
        client
            .put_blob(digest, (*bytes).clone(), move |sent| bar.advance(sent))
            .await
            .map_err(client_error(console))?;
    }
    Ok(missing.len())
}
