//! Generates the gate of a component: a component with the interface of the provider of stores through which stores are
//! opened. Its `open` calls the provider's `open` with the calling component's name in front of the store's name. All other
//! functions are those of the provider.

use std::fmt::Write as _;

/// An interface through which stores are opened.
pub(super) struct Gate {
    /// The resource that `open` returns.
    resource: &'static str,
    /// The other types of the interface, and their definitions. The definition of `error` is the first.
    types: Vec<(&'static str, String)>,
    /// The parameter of `open`.
    parameter: &'static str,
    /// `async` if `open` is an asynchronous function.
    effect: &'static str,
    /// The other functions: their names, and their types after the parameter `self`.
    methods: Vec<(&'static str, &'static str)>,
}

const KEY_VALUE_ERROR: &str = r#"(variant (case "no-such-store") (case "access-denied") (case "other" string))"#;

const SQL_ERROR: &str = r#"(variant (case "access-denied" string) (case "statement" string) (case "parameters" string)
      (case "constraint" string) (case "timeout") (case "too-large" string) (case "overloaded") (case "store" string))"#;

/// `wasi:keyvalue/store`. The drafts differ in the type of a cursor.
fn key_value(cursor: &str) -> Gate {
    Gate {
        resource: "bucket",
        types: vec![
            ("error", KEY_VALUE_ERROR.to_owned()),
            ("key-response", format!(r#"(record (field "keys" (list string)) (field "cursor" (option {cursor})))"#)),
        ],
        parameter: "identifier",
        effect: "",
        methods: vec![
            ("[method]bucket.get", r#"(param "key" string) (result (result (option (list u8)) (error $error)))"#),
            (
                "[method]bucket.set",
                r#"(param "key" string) (param "value" (list u8)) (result (result (error $error)))"#,
            ),
            ("[method]bucket.delete", r#"(param "key" string) (result (result (error $error)))"#),
            ("[method]bucket.exists", r#"(param "key" string) (result (result bool (error $error)))"#),
            (
                "[method]bucket.list-keys",
                match cursor {
                    "u64" => r#"(param "cursor" (option u64)) (result (result $key-response (error $error)))"#,
                    _ => r#"(param "cursor" (option string)) (result (result $key-response (error $error)))"#,
                },
            ),
        ],
    }
}

/// The address of the caller's name in the memory of a gate. The result of `open`, at address 16, has 16 bytes: the
/// discriminant of the result, and a handle or an error with a text.
const NAME_AT: usize = 64;

impl Gate {
    /// Returns the gate for an interface through which stores are opened.
    pub(super) fn of(interface: &str) -> Option<Self> {
        match interface {
            "wasi:keyvalue/store@0.2.0-draft" => Some(key_value("u64")),
            "wasi:keyvalue/store@0.2.0-draft2" => Some(key_value("string")),
            "isomer:sql/store@0.1.0" => Some(Self {
                resource: "connection",
                types: vec![("error", SQL_ERROR.to_owned())],
                parameter: "name",
                effect: "async",
                methods: vec![],
            }),
            _ => None,
        }
    }

    /// Returns the names of the types that the gate imports, which are those of the interface.
    pub(super) fn types(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.resource).chain(self.types.iter().map(|(name, _)| *name))
    }

    /// Returns the names of the functions of the interface. The gate imports them as `function-0` (which is `open`),
    /// `function-1`, ….
    pub(super) fn functions(&self) -> impl Iterator<Item = &str> {
        std::iter::once("open").chain(self.methods.iter().map(|(name, _)| *name))
    }

    /// Returns the gate of `component` in text form.
    ///
    /// The gate frees the memory of a call after the call. This is safe although `open` may be asynchronous: an instance
    /// with a function that is lifted synchronously runs one call at a time.
    pub(super) fn text(&self, component: &str) -> String {
        let Self { resource, parameter, effect, .. } = self;
        let (mut imports, mut exports) = (String::new(), String::new());
        let _ = writeln!(imports, "(import \"{resource}\" (type $resource (sub resource)))");
        let _ = writeln!(exports, "(export $resource-out \"{resource}\" (type $resource))");
        for (name, definition) in &self.types {
            let _ = writeln!(imports, "(type ${name}-type {definition})");
            let _ = writeln!(imports, "(import \"{name}\" (type ${name} (eq ${name}-type)))");
            let _ = writeln!(exports, "(export ${name}-out \"{name}\" (type ${name}))");
        }
        // An exported function must refer to the exported types.
        let exported = |ty: &str| {
            let names = std::iter::once("resource").chain(self.types.iter().map(|(name, _)| *name));
            names.fold(ty.to_owned(), |ty, name| {
                ty.replace(&format!("${name})"), &format!("${name}-out)"))
                    .replace(&format!("${name} "), &format!("${name}-out "))
            })
        };
        let open = format!(r#"{effect} (param "{parameter}" string) (result (result (own $resource) (error $error)))"#);
        let _ = writeln!(imports, "(import \"function-0\" (func $open {open}))");
        let opened = exported(&open);
        for (number, (name, ty)) in (1..).zip(&self.methods) {
            let ty = format!("(param \"self\" (borrow $resource)) {ty}");
            let _ = writeln!(imports, "(import \"function-{number}\" (func $function-{number} {ty}))");
            let _ = writeln!(exports, "(export \"{name}\" (func $function-{number}) (func {}))", exported(&ty));
        }
        let name = format!("{component}\n");
        let data = name.bytes().fold(String::new(), |mut data, byte| {
            let _ = write!(data, "\\{byte:02x}");
            data
        });
        let (length, heap) = (name.len(), (NAME_AT + name.len()).next_multiple_of(16));
        format!(
            r#"
(component
  {imports}
  (core module $allocator
    (memory (export "memory") 1)
    (data (i32.const {NAME_AT}) "{data}")
    (global $top (mut i32) (i32.const {heap}))
    (func (export "allocate") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32) (local $end i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (local.set $end (i32.add (local.get $at) (local.get $size)))
      (if (i32.lt_u (local.get $end) (local.get $at)) (then unreachable))
      (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if
            (i32.eq
              (memory.grow
                (i32.add
                  (i32.shr_u
                    (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
                    (i32.const 16))
                  (i32.const 1)))
              (i32.const -1))
            (then unreachable))))
      (memory.copy (local.get $at) (local.get $old) (local.get $old-size))
      (global.set $top (local.get $end))
      (local.get $at))
    (func (export "free") (param i32) (global.set $top (i32.const {heap}))))
  (core instance $allocator (instantiate $allocator))
  (alias core export $allocator "memory" (core memory $memory))
  (alias core export $allocator "allocate" (core func $allocate))
  (alias core export $allocator "free" (core func $free))
  (core func $open-core (canon lower (func $open) (memory $memory) (realloc $allocate)))
  (core module $gate
    (import "host" "memory" (memory 1))
    (import "host" "allocate" (func $allocate (param i32 i32 i32 i32) (result i32)))
    (import "host" "open" (func $open (param i32 i32 i32)))
    (func (export "open") (param $name i32) (param $length i32) (result i32)
      (local $at i32)
      (local.set $at
        (call $allocate
          (i32.const 0) (i32.const 0) (i32.const 1) (i32.add (local.get $length) (i32.const {length}))))
      (memory.copy (local.get $at) (i32.const {NAME_AT}) (i32.const {length}))
      (memory.copy
        (i32.add (local.get $at) (i32.const {length})) (local.get $name) (local.get $length))
      (call $open
        (local.get $at) (i32.add (local.get $length) (i32.const {length})) (i32.const 16))
      (i32.const 16)))
  (core instance $gate
    (instantiate $gate
      (with "host"
        (instance
          (export "memory" (memory $memory))
          (export "allocate" (func $allocate))
          (export "open" (func $open-core))))))
  (func $gated {open}
    (canon lift (core func $gate "open") (memory $memory) (realloc $allocate) (post-return $free)))
  {exports}
  (export "open" (func $gated) (func {opened})))
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_valid() {
        for interface in
            ["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/store@0.2.0-draft2", "isomer:sql/store@0.1.0"]
        {
            let bytes = wat::parse_str(Gate::of(interface).unwrap().text("cart")).unwrap();
            crate::reader::validate(&bytes).unwrap();
        }
        assert!(Gate::of("wasi:keyvalue/store@0.3.0").is_none());
    }
}
