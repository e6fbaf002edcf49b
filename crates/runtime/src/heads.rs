//! What a guest may put into the head of a request or a response that it makes: bounded, as the host keeps it outside of the
//! guest's memory for as long as the guest keeps the handle.
//!
//! wasmtime's implementation bounds fields and schemes. The method, the path and the authority it takes as long as a call's arguments
//! may be; so the functions that set them are defined anew here, for both versions of the interface, and look at the length first.
//! What is too long is refused as what is not valid.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::{WasiHttpView as _, p2, p3};

use crate::guest::Guest;

/// Bytes of the fields of one head, and of a path with its query.
pub(crate) const FIELDS_BYTES_MAX: usize = 64 << 10;

/// Bytes of a path with its query.
const PATH_BYTES_MAX: usize = 64 << 10;

/// Bytes of a method. The longest that is registered has 17.
const METHOD_BYTES_MAX: usize = 64;

/// Bytes of an authority: a host name has at most 253.
const AUTHORITY_BYTES_MAX: usize = 1 << 10;

/// The names under which wasmtime's implementation has the interface.
const TYPES_P2: &str = "wasi:http/types@0.2.12";
const TYPES_P3: &str = "wasi:http/types@0.3.0";

type Store<'a> = StoreContextMut<'a, Guest>;
type Text = Option<String>;

fn is_long(text: &Text, bytes_max: usize) -> bool {
    text.as_ref().is_some_and(|text| text.len() > bytes_max)
}

/// Puts the bounded functions in the place of the unbounded ones, which must be defined.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    bound_p2(linker)?;
    bound_p3(linker)
}

fn bound_p2(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use p2::bindings::http::types::{HostOutgoingRequest, Method};
    use p2::types::HostOutgoingRequest as Request;
    let mut types = linker.instance(TYPES_P2)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_>, (request, method): (Resource<Request>, Method)| {
            if matches!(&method, Method::Other(name) if name.len() > METHOD_BYTES_MAX) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Resource<Request>, Text)| {
            if is_long(&path, PATH_BYTES_MAX) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_path_with_query(&mut store.data_mut().http(), request, path)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_>, (request, authority): (Resource<Request>, Text)| {
            if is_long(&authority, AUTHORITY_BYTES_MAX) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )
}

fn bound_p3(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use p3::Request;
    use p3::bindings::http::types::{HostRequest, Method};
    let mut types = linker.instance(TYPES_P3)?;
    types.func_wrap(
        "[method]request.set-method",
        |mut store: Store<'_>, (request, method): (Resource<Request>, Method)| {
            if matches!(&method, Method::Other(name) if name.len() > METHOD_BYTES_MAX) {
                return Ok((Err(()),));
            }
            Ok((HostRequest::set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Resource<Request>, Text)| {
            if is_long(&path, PATH_BYTES_MAX) {
                return Ok((Err(()),));
            }
            Ok((HostRequest::set_path_with_query(&mut store.data_mut().http(), request, path)?,))
        },
    )?;
    types.func_wrap(
        "[method]request.set-authority",
        |mut store: Store<'_>, (request, authority): (Resource<Request>, Text)| {
            if is_long(&authority, AUTHORITY_BYTES_MAX) {
                return Ok((Err(()),));
            }
            Ok((HostRequest::set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )
}
