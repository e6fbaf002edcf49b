//! Attacks by core modules: at the start of an instance (by start functions, and by initial memories and tables), and
//! in a handler of WASI 0.2.

/// An attack by a core module: the module's fields and the body of its handler function, in the WebAssembly text
/// format, and the expected status and log entry.
pub(crate) struct Start {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static str,
    pub(crate) body: &'static str,
    pub(crate) status: u16,
    pub(crate) log: &'static str,
}

/// All attacks of this file. `docs/reference/attacks.md` lists them under the same names.
pub(crate) const STARTS: &[Start] = &[
    Start {
        name: "endless loop in the start function",
        fields: "(start $start) (func $start (loop $again (br $again)))",
        body: "",
        status: 500,
        log: "it has not started within",
    },
    Start {
        name: "trap in the start function",
        fields: "(start $start) (func $start unreachable)",
        body: "",
        status: 500,
        log: "unreachable",
    },
    Start {
        name: "stack bomb in the start function",
        fields: "(start $start) (func $start (call $start))",
        body: "",
        status: 500,
        log: "call stack exhausted",
    },
    Start {
        name: "memory bomb at the start",
        fields: "(memory (export \"memory\") 2000)",
        body: "",
        status: 500,
        log: "it needs more memory than its limit of 64 MiB",
    },
    Start {
        name: "table bomb",
        // Grows the table until the platform refuses, and returns its size, which is at most the size of the pool's
        // tables.
        fields: "(table $table 1 funcref)",
        body:
            "(loop $again (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
            (if (i32.gt_u (table.size $table) (i32.const 100000)) (then (local.set $status (i32.const 500))))",
        status: 200,
        log: "",
    },
    Start {
        name: "endless loop in WASI 0.2",
        fields: "",
        body: "(loop $again (br $again))",
        status: 504,
        log: "no response within the deadline of 1000 ms",
    },
    Start { name: "no response in WASI 0.2", fields: "", body: "(return)", status: 500, log: "" },
    Start {
        name: "handle that is dropped twice",
        fields: "",
        body: "(local.set $made (call $fields)) (drop (call $response (local.get $made)))
            (drop (call $response (local.get $made)))",
        status: 500,
        log: "handle index",
    },
];
