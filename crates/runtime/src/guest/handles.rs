//! The host memory of the handles that a guest holds, for example of heads of requests and of folder listings.

use std::any::Any;

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{FieldMap, p2, p3};

use crate::folders::{LISTING_BYTES, ListingP2};

/// The maximum total size in bytes of the fields of one head. Also the maximum length of a path with its query.
pub(crate) const FIELDS_BYTES_MAX: usize = 64 << 10;

/// The host memory of a handle in bytes, without its variable data: the largest object that a handle can refer to, and
/// the handle's entry in the table.
pub(crate) const HANDLE_BYTES: usize = 512;

/// The host memory of one header field in bytes, without its name and value: the field's entry in the map, the map's
/// unused capacity, and the overhead of small allocations.
pub(crate) const FIELD_BYTES: usize = 192;

/// Returns the host memory of the header fields in `fields`, in bytes.
pub(crate) fn fields_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| FIELD_BYTES + name.as_str().len() + value.len()).sum()
}

/// Returns the host memory of the handles in `table`, in bytes.
pub(super) fn held_bytes(table: &mut ResourceTable) -> usize {
    held(table).bytes
}

/// The number of handles in a table, and their host memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HandleUse {
    pub(super) handles: usize,
    pub(super) bytes: usize,
}

pub(super) fn held(table: &mut ResourceTable) -> HandleUse {
    table.iter_mut().fold(HandleUse::default(), |held, entry| HandleUse {
        handles: held.handles + 1,
        bytes: held.bytes + HANDLE_BYTES + behind(entry),
    })
}

fn behind(entry: &(dyn Any + Send)) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        fields_bytes(fields)
    } else if let Some(request) = entry.downcast_ref::<p3::Request>() {
        fields_bytes(&request.headers) + request.path_with_query.as_ref().map_or(0, |path| path.as_str().len())
    } else if let Some(response) = entry.downcast_ref::<p3::Response>() {
        fields_bytes(&response.headers)
    } else if let Some(request) = entry.downcast_ref::<p2::types::HostOutgoingRequest>() {
        fields_bytes(&request.headers) + length(&request.path_with_query) + length(&request.authority)
    } else if let Some(response) = entry.downcast_ref::<p2::types::HostOutgoingResponse>() {
        fields_bytes(&response.headers)
    } else if let Some(response) = entry.downcast_ref::<p2::types::HostIncomingResponse>() {
        fields_bytes(&response.headers)
    } else if entry.is::<ListingP2>() {
        LISTING_BYTES
    } else {
        // These objects need no charge here: file streams have their own charge, the head of an incoming request is
        // charged with the request, and bodies are charged with their exchange.
        0
    }
}
