//! Generates components that return constants: the settings of a provider, a component's environment, and an empty list
//! of folders. They are written as text, because they are the same except for their data.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The name of the exported instance of [`environment`]. It has the functions of `wasi:cli/environment` of WASI 0.2 and
/// of 0.3.
pub(super) const ENVIRONMENT: &str = "environment";

/// The number of bytes in a page of a Wasm memory.
const PAGE_BYTES: usize = 64 << 10;

/// A component that exports `wasi:filesystem/preopens.get-directories` for the resource type that it is given, with an
/// empty list as the result.
pub(super) const NO_FOLDERS: &str = r#"
(component
  (import "descriptor" (type $descriptor (sub resource)))
  (core module $code
    (memory (export "memory") 1)
    (func (export "list") (result i32) (i32.const 8)))
  (core instance $core (instantiate $code))
  (alias core export $core "memory" (core memory $memory))
  (type $directory (tuple (own $descriptor) string))
  (type $directories (list $directory))
  (func (export "get-directories") (result $directories)
    (canon lift (core func $core "list") (memory $memory))))
"#;

/// The types of `wasi:http/types` to which the type `error-code` refers.
pub(super) const HTTP_PAYLOADS: [&str; 3] = ["DNS-error-payload", "TLS-alert-received-payload", "field-size-payload"];

/// The function of `wasi:http` that refuses all outgoing requests.
pub(super) struct NoHttp {
    /// The name of the function.
    pub(super) function: &'static str,
    /// The types of `wasi:http/types` that the interface uses: the request, the response, perhaps the options, and last
    /// `error-code`.
    pub(super) types: &'static [&'static str],
    /// The type of the function.
    signature: &'static str,
    /// The core function. Its parameters are handles that belong to it, so it drops them.
    code: &'static str,
}

/// The function of `wasi:http/client@0.3`.
pub(super) const NO_CLIENT: NoHttp = NoHttp {
    function: "send",
    types: &["request", "response", "error-code"],
    signature: r#"async (param "request" (own $request)) (result (result (own $response) (error $error-code)))"#,
    code: "(param i32) (result i32) (call $drop-request (local.get 0)) (i32.const 8)",
};

/// The function of `wasi:http/outgoing-handler@0.2`.
pub(super) const NO_OUTGOING_HANDLER: NoHttp = NoHttp {
    function: "handle",
    types: &["outgoing-request", "future-incoming-response", "request-options", "error-code"],
    signature: r#"(param "request" (own $outgoing-request)) (param "options" (option (own $request-options)))
        (result (result (own $future-incoming-response) (error $error-code)))"#,
    code: "(param i32 i32 i32) (result i32)
        (call $drop-outgoing-request (local.get 0))
        (if (local.get 1) (then (call $drop-request-options (local.get 2))))
        (i32.const 8)",
};

impl NoHttp {
    /// Returns a component that exports the function, for the types that it is given. The result is the error
    /// `HTTP-request-denied`.
    pub(super) fn component(&self) -> String {
        let resources = self.types.iter().filter(|name| **name != "error-code");
        let (mut imports, mut drops, mut given, mut taken) =
            (String::new(), String::new(), String::new(), String::new());
        for name in resources {
            let _ = writeln!(imports, "(import \"{name}\" (type ${name} (sub resource)))");
            let _ = writeln!(drops, "(core func $drop-{name} (canon resource.drop ${name}))");
            let _ = writeln!(given, "(export \"{name}\" (func $drop-{name}))");
            let _ = writeln!(taken, "(import \"drop\" \"{name}\" (func $drop-{name} (param i32)))");
        }
        let Self { function, signature, code, .. } = self;
        // The error is the case 15 of the variant, whose payloads are aligned to 8 bytes.
        format!(
            r#"
(component
  {imports}
  {ERROR_CODE}
  {drops}
  (core module $code
    {taken}
    (memory (export "memory") 1)
    (data (i32.const 8) "\01")
    (data (i32.const 16) "\0f")
    (func (export "refuse") {code}))
  (core instance $drops {given})
  (core instance $core (instantiate $code (with "drop" (instance $drops))))
  (alias core export $core "memory" (core memory $memory))
  (type $refuse (func {signature}))
  (func (export "{function}") (type $refuse) (canon lift (core func $core "refuse") (memory $memory))))
"#
        )
    }
}

/// The type `error-code` of `wasi:http/types`, which is the same in WASI 0.2 and 0.3.
const ERROR_CODE: &str = r#"
  (type $dns (record (field "rcode" (option string)) (field "info-code" (option u16))))
  (import "DNS-error-payload" (type $DNS-error-payload (eq $dns)))
  (type $tls (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
  (import "TLS-alert-received-payload" (type $TLS-alert-received-payload (eq $tls)))
  (type $field (record (field "field-name" (option string)) (field "field-size" (option u32))))
  (import "field-size-payload" (type $field-size-payload (eq $field)))
  (type $code (variant
    (case "DNS-timeout")
    (case "DNS-error" $DNS-error-payload)
    (case "destination-not-found")
    (case "destination-unavailable")
    (case "destination-IP-prohibited")
    (case "destination-IP-unroutable")
    (case "connection-refused")
    (case "connection-terminated")
    (case "connection-timeout")
    (case "connection-read-timeout")
    (case "connection-write-timeout")
    (case "connection-limit-reached")
    (case "TLS-protocol-error")
    (case "TLS-certificate-error")
    (case "TLS-alert-received" $TLS-alert-received-payload)
    (case "HTTP-request-denied")
    (case "HTTP-request-length-required")
    (case "HTTP-request-body-size" (option u64))
    (case "HTTP-request-method-invalid")
    (case "HTTP-request-URI-invalid")
    (case "HTTP-request-URI-too-long")
    (case "HTTP-request-header-section-size" (option u32))
    (case "HTTP-request-header-size" (option $field-size-payload))
    (case "HTTP-request-trailer-section-size" (option u32))
    (case "HTTP-request-trailer-size" $field-size-payload)
    (case "HTTP-response-incomplete")
    (case "HTTP-response-header-section-size" (option u32))
    (case "HTTP-response-header-size" $field-size-payload)
    (case "HTTP-response-body-size" (option u64))
    (case "HTTP-response-trailer-section-size" (option u32))
    (case "HTTP-response-trailer-size" $field-size-payload)
    (case "HTTP-response-transfer-coding" (option string))
    (case "HTTP-response-content-coding" (option string))
    (case "HTTP-response-timeout")
    (case "HTTP-upgrade-failed")
    (case "HTTP-protocol-error")
    (case "loop-detected")
    (case "configuration-error")
    (case "internal-error" (option string))))
  (import "error-code" (type $error-code (eq $code)))
"#;

/// Returns a component that exports `isomer:parcel/settings` with a function that returns `settings`.
pub(super) fn settings(settings: &[u8]) -> String {
    // The memory starts with the result: the address and the length of the list.
    let mut memory = Memory::default();
    let result = memory.reserve(8);
    let at = memory.add(settings);
    memory.set(result, &[at, settings.len()]);
    format!(
        r#"
(component
  (core module $code
    {memory}
    (func (export "get") (result i32) (i32.const {result})))
  (core instance $core (instantiate $code))
  (alias core export $core "memory" (core memory $memory))
  (type $bytes (list u8))
  (func $get (result $bytes) (canon lift (core func $core "get") (memory $memory)))
  (instance $settings (export "get" (func $get)))
  (export "isomer:parcel/settings@0.1.0" (instance $settings)))
"#
    )
}

/// Returns a component that exports the functions of `wasi:cli/environment`, with these variables, no arguments and no
/// working directory.
pub(super) fn environment(variables: &BTreeMap<String, String>) -> String {
    let mut memory = Memory::default();
    let (list, empty) = (memory.reserve(8), memory.reserve(16));
    let entries = memory.reserve(16 * variables.len());
    for (index, (name, value)) in variables.iter().enumerate() {
        let (name_at, value_at) = (memory.add(name.as_bytes()), memory.add(value.as_bytes()));
        memory.set(entries + 16 * index, &[name_at, name.len(), value_at, value.len()]);
    }
    memory.set(list, &[entries, variables.len()]);
    format!(
        r#"
(component
  (core module $code
    {memory}
    (func (export "variables") (result i32) (i32.const {list}))
    (func (export "empty") (result i32) (i32.const {empty})))
  (core instance $core (instantiate $code))
  (alias core export $core "memory" (core memory $memory))
  (type $variable (tuple string string))
  (type $variables (list $variable))
  (type $arguments (list string))
  (type $folder (option string))
  (func $get-environment (result $variables) (canon lift (core func $core "variables") (memory $memory)))
  (func $get-arguments (result $arguments) (canon lift (core func $core "empty") (memory $memory)))
  (func $initial-cwd (result $folder) (canon lift (core func $core "empty") (memory $memory)))
  (instance $environment
    (export "get-environment" (func $get-environment))
    (export "get-arguments" (func $get-arguments))
    (export "initial-cwd" (func $initial-cwd))
    (export "get-initial-cwd" (func $initial-cwd)))
  (export "{ENVIRONMENT}" (instance $environment)))
"#
    )
}

/// The initial contents of a memory. Its display is the memory's definition in text form.
struct Memory(Vec<u8>);

impl Default for Memory {
    /// The first bytes stay unused, so that no address is zero.
    fn default() -> Self {
        Self(vec![0; 8])
    }
}

impl Memory {
    /// Reserves zero bytes at an address that is a multiple of 8, and returns the address.
    fn reserve(&mut self, bytes: usize) -> usize {
        let at = self.0.len().next_multiple_of(8);
        self.0.resize(at + bytes, 0);
        at
    }

    fn add(&mut self, bytes: &[u8]) -> usize {
        let at = self.reserve(bytes.len());
        self.0[at..].copy_from_slice(bytes);
        at
    }

    /// Writes 32-bit numbers at `at`.
    fn set(&mut self, at: usize, numbers: &[usize]) {
        for (index, number) in numbers.iter().enumerate() {
            let number = u32::try_from(*number).expect("a manifest is smaller than 4 GiB").to_le_bytes();
            self.0[at + 4 * index..][..4].copy_from_slice(&number);
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pages = self.0.len().div_ceil(PAGE_BYTES);
        write!(f, "(memory (export \"memory\") {pages}) (data (i32.const 0) \"")?;
        let mut data = String::with_capacity(3 * self.0.len());
        for byte in &self.0 {
            write!(data, "\\{byte:02x}")?;
        }
        f.write_str(&data)?;
        f.write_str("\")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_components_are_valid() {
        let variables = BTreeMap::from([("A".to_owned(), "\"1\"\n".to_owned()), ("Ä".to_owned(), String::new())]);
        let refusals = [NO_CLIENT.component(), NO_OUTGOING_HANDLER.component()];
        let others = [settings(b"{}"), settings(&[0xff; 200_000]), environment(&variables), NO_FOLDERS.to_owned()];
        for text in others.into_iter().chain(refusals) {
            let bytes = wat::parse_str(&text).unwrap();
            crate::reader::validate(&bytes).unwrap();
        }
    }
}
