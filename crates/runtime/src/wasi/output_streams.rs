//! `wasi:io/streams` of WASI 0.2: the functions that write, so that each line of output belongs to the request for which
//! the guest writes it.
//!
//! A guest usually keeps its streams for stdout and stderr, so a stream does not show which of several requests writes
//! to it. The call of the host function does.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::StreamResult;
use wasmtime_wasi::p2::bindings::io::streams::{Host, HostOutputStream, OutputStream, StreamError};

use crate::guest::{Guest, attribute_output};

/// The interface that wasmtime defines.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// Replaces wasmtime's functions, which must already be defined, with the functions of this module.
pub(crate) fn attributed(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Parameters = (Resource<OutputStream>, Vec<u8>);
    let mut streams = linker.instance(STREAMS)?;
    streams.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, Guest>, (stream, bytes): Parameters| {
            let is_attributed = attribute_output(&mut store);
            let guest = store.data_mut();
            let written = HostOutputStream::write(guest.table(), stream, bytes);
            to_value(guest, is_attributed, written)
        },
    )?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |mut store: StoreContextMut<'_, Guest>, (stream, bytes): Parameters| {
            Box::new(async move {
                let is_attributed = attribute_output(&mut store);
                let guest = store.data_mut();
                let written = HostOutputStream::blocking_write_and_flush(guest.table(), stream, bytes).await;
                to_value(guest, is_attributed, written)
            })
        },
    )
}

/// Ends the attribution, and turns an error into the value that the guest gets, or into a trap.
fn to_value(
    guest: &mut Guest,
    is_attributed: bool,
    written: StreamResult<()>,
) -> wasmtime::Result<(Result<(), StreamError>,)> {
    if is_attributed {
        guest.attribute_output_to_scope();
    }
    Ok((match written {
        Ok(()) => Ok(()),
        Err(error) => Err(Host::convert_stream_error(guest.table(), error)?),
    },))
}
