//! Provides key-value and SQL stores to the components of an app that was shipped as one Wasm file. Stores are SQLite
//! databases in a folder of the host.
//!
//! All components of the app share one instance of this provider, so that they can pass handles to each other. Each
//! component calls `open` through a gate, which puts the component's name in front of the store's name
//! (`cart\ncarts`). The settings state which stores each component was granted.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `pages` | the files of a database: snapshots and commits that need no file locks |
//! | `generations` | the folder of a database: how generations begin and end |
//! | `lock` | lets writers wait for each other |
//! | `vfs` | SQLite's file system on `pages` |
//! | `session` | one connection with its limits |
//! | `migrations` | the app's migrations |
//! | `writer` | the writing connection of an SQL store, and transactions |
//! | `sql`, `kv` | the exported interfaces |
//!
//! The rules of SQL (which statements are allowed, replaced functions, sections of migrations) and the formats of
//! messages are the very source files that a node is built from, so stores behave as on a node.

mod generations;
mod kv;
mod kv_draft;
mod kv_store;
mod lock;
mod migrations;
mod pages;
mod random;
mod rules;
mod session;
mod settings;
mod sql;
mod vfs;
mod writer;

wit_bindgen::generate!({
    inline: "
        package isomer:stores-provider;
        world provider {
            import isomer:parcel/settings@0.1.0;
            import wasi:clocks/monotonic-clock@0.3.0;
            import wasi:random/random@0.2.12;
            export isomer:sql/types@0.1.0;
            export isomer:sql/store@0.1.0;
            export wasi:keyvalue/store@0.2.0-draft;
            export wasi:keyvalue/atomics@0.2.0-draft;
            export wasi:keyvalue/batch@0.2.0-draft;
            export wasi:keyvalue/store@0.2.0-draft2;
            export wasi:keyvalue/atomics@0.2.0-draft2;
            export wasi:keyvalue/batch@0.2.0-draft2;
        }
    ",
    path: [
        "../wit",
        "../../crates/wit/wit/isomer-sql",
        "../../crates/wit/wit/wasi-clocks-0.3.0",
        "../../crates/wit/wit/wasi-keyvalue-0.2.0-draft",
        "../../crates/wit/wit/wasi-keyvalue-0.2.0-draft2",
        "../../crates/wit/wit/wasi-random-0.2.12",
    ],
    world: "isomer:stores-provider/provider",
    generate_all,
});

struct Provider;

export!(Provider);
