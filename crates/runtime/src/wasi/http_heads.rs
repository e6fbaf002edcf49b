//! The limits of the head of a request or a response that a guest creates. The host holds the head outside of the
//! guest's memory for as long as the guest keeps the handle. So its size is limited, and charged to the account in
//! advance.
//!
//! wasmtime's implementation limits fields and schemes, and in WASI 0.3 also statuses. It accepts a method, a path and
//! an authority of any length that fits into a call's arguments. So the functions that set them are replaced here, for
//! both versions of the interface, by functions that check the length first. A text that is too long gets the same
//! error as an invalid value. Functions that create fields or add to them are also replaced, by functions that charge
//! the fields first. If the account has no memory left, the guest traps, as it does at the limit of its handles,
//! because the interface has no error for this.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::HeaderError as HeaderErrorP2;
use wasmtime_wasi_http::{FieldMap, FieldMapError, WasiHttpView, p2, p3};

use crate::guest::{FIELD_BYTES, FIELDS_BYTES_MAX, Guest, HANDLE_BYTES, fields_bytes};

/// The maximum host memory of the fields of one head, in bytes. It suffices for a thousand empty fields with names of
/// one byte.
const FIELDS_CHARGE_MAX: usize = FIELDS_BYTES_MAX + (FIELDS_BYTES_MAX / 64) * FIELD_BYTES;

/// The maximum length of a path with its query, in bytes.
const PATH_BYTES_MAX: usize = 64 << 10;

/// The maximum length of a method in bytes. The longest registered method has 17 bytes.
const METHOD_BYTES_MAX: usize = 64;

/// The maximum length of an authority in bytes. A host name has at most 253 bytes.
const AUTHORITY_BYTES_MAX: usize = 1 << 10;

/// The id of the WASI 0.2 interface in wasmtime's implementation; `TYPES_P3` is the id of the WASI 0.3 interface.
const TYPES_P2: &str = "wasi:http/types@0.2.12";
const TYPES_P3: &str = "wasi:http/types@0.3.0";

type Store<'a> = StoreContextMut<'a, Guest>;
type Text = Option<String>;

fn is_long(text: &Text, bytes_max: usize) -> bool {
    text.as_ref().is_some_and(|text| text.len() > bytes_max)
}

/// Replaces wasmtime's functions for header fields and heads, which must already be defined in `linker`. The new
/// functions enforce limits and charge the account.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    bound_p2(linker)?;
    bound_p3(linker)?;
    charge_p2(linker.instance(TYPES_P2)?)?;
    charge_p3(linker.instance(TYPES_P3)?)
}

/// Defines the functions that create fields or add to them, for one version of the interface. `to_value` turns an error
/// into the value that the guest gets, or into a trap.
macro_rules! charged_fields {
    ($name:ident, $($types:ident)::+, $to_value:path) => {
        fn $name<T: HandleCharges + 'static>(mut types: LinkerInstance<'_, T>) -> wasmtime::Result<()> {
            use $($types)::+::{HeaderError, HostFields};
            types.func_wrap("[constructor]fields", |mut store: StoreContextMut<'_, T>, ()| {
                store.data_mut().charge_handles(HANDLE_BYTES)?;
                Ok((HostFields::new(&mut store.data_mut().http())?,))
            })?;
            types.func_wrap(
                "[static]fields.from-list",
                |mut store: StoreContextMut<'_, T>, (entries,): (Vec<(String, Vec<u8>)>,)| {
                    let bytes: usize = entries.iter().map(|(name, value)| FIELD_BYTES + name.len() + value.len()).sum();
                    // Charges at most the maximum, because larger fields are refused below.
                    let bytes = bytes.min(FIELDS_CHARGE_MAX);
                    store.data_mut().charge_handles(HANDLE_BYTES + bytes)?;
                    Ok((match HostFields::from_list(&mut store.data_mut().http(), entries) {
                        Ok(fields) => Ok::<Resource<FieldMap>, HeaderError>(fields),
                        Err(error) => Err($to_value(error.downcast())?),
                    },))
                },
            )?;
            types.func_wrap(
                "[method]fields.set",
                |mut store: StoreContextMut<'_, T>, (fields, name, values): (Resource<FieldMap>, String, Vec<Vec<u8>>)| {
                    let bytes: usize = values.iter().map(|value| FIELD_BYTES + value.len()).sum();
                    store.data_mut().charge_handles((name.len() + bytes).min(FIELDS_CHARGE_MAX))?;
                    Ok((match HostFields::set(&mut store.data_mut().http(), fields, name, values) {
                        Ok(()) => Ok::<(), HeaderError>(()),
                        Err(error) => Err($to_value(error.downcast())?),
                    },))
                },
            )?;
            types.func_wrap(
                "[method]fields.append",
                |mut store: StoreContextMut<'_, T>, (fields, name, value): (Resource<FieldMap>, String, Vec<u8>)| {
                    let bytes = FIELD_BYTES + name.len() + value.len();
                    store.data_mut().charge_handles(bytes.min(FIELDS_CHARGE_MAX))?;
                    Ok((match HostFields::append(&mut store.data_mut().http(), fields, name, value) {
                        Ok(()) => Ok::<(), HeaderError>(()),
                        Err(error) => Err($to_value(error.downcast())?),
                    },))
                },
            )?;
            types.func_wrap("[method]fields.clone", |mut store: StoreContextMut<'_, T>, (fields,): (Resource<FieldMap>,)| {
                // The clone shares its content with the original until one of them is changed. The content is charged
                // now, because the change itself does not charge it.
                let bytes = fields_bytes(store.data_mut().http().table.get(&fields)?);
                store.data_mut().charge_handles(HANDLE_BYTES + bytes)?;
                Ok((HostFields::clone(&mut store.data_mut().http(), fields)?,))
            })
        }
    };
}

charged_fields!(charge_p2, p2::bindings::http::types, to_value_p2);
charged_fields!(charge_p3, p3::bindings::http::types, std::convert::identity);

/// Turns the traps for too many or too large fields into errors of WASI 0.2. WASI 0.3 has the error `size-exceeded` for
/// this case, but WASI 0.2 does not. So the error is `forbidden`, which is for well-formed values that the host
/// refuses.
fn to_value_p2(to_value: wasmtime::Result<HeaderErrorP2>) -> wasmtime::Result<HeaderErrorP2> {
    to_value.or_else(|trap| match trap.downcast_ref::<FieldMapError>() {
        Some(FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields) => Ok(HeaderErrorP2::Forbidden),
        _ => Err(trap),
    })
}

/// Replaces the functions of the resource `fields` in the linker of a one-off command of WASI 0.2, so that they charge
/// for the fields. If the fields are too many or too large, the command gets an error instead of a trap, as a component
/// does.
pub(crate) fn charge_command<T: HandleCharges + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    charge_p2(linker.instance(TYPES_P2)?)
}

/// The data of a wasmtime store that can charge host memory for its guest.
pub(crate) trait HandleCharges: WasiHttpView {
    /// Charges `bytes` for entries that are about to be added to the table of handles.
    fn charge_handles(&mut self, bytes: usize) -> wasmtime::Result<()>;
}

impl HandleCharges for Guest {
    fn charge_handles(&mut self, bytes: usize) -> wasmtime::Result<()> {
        Guest::charge_handles(self, bytes)
    }
}

fn bound_p2(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use p2::bindings::http::types::{HostOutgoingRequest, HostOutgoingResponse, Method};
    use p2::types::{HostOutgoingRequest as Request, HostOutgoingResponse as Response};
    let mut types = linker.instance(TYPES_P2)?;
    // Accepts only status codes from 100 to 599, because HTTP has no others (RFC 9110, section 15). In WASI 0.3,
    // wasmtime itself refuses other codes.
    types.func_wrap(
        "[method]outgoing-response.set-status-code",
        |mut store: Store<'_>, (response, status): (Resource<Response>, u16)| {
            if !(100..=599).contains(&status) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingResponse::set_status_code(&mut store.data_mut().http(), response, status)?,))
        },
    )?;
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
            store.data_mut().charge_handles(path.as_ref().map_or(0, String::len))?;
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
            store.data_mut().charge_handles(path.as_ref().map_or(0, String::len))?;
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
