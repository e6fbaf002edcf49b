//! Attacks the platform that runs it. The last part of the path selects the attack. The platform's tests define the
//! expected outcome.
//!
//! Before each attack, this guest fills memory with a pattern that the next guest in the same slot must not find. The
//! path `/canary` makes this guest search memory for the pattern of the previous guest.
//!
//! | file | the attack |
//! | --- | --- |
//! | `canary` | finding data of another guest in memory |
//! | `loops` | occupying the processor |
//! | `hoards` | using up memory and handles of the guest and of the platform |
//! | `floods` | sending, printing and storing without end |
//! | `reaches` | accessing what was not granted |

mod canary;
mod floods;
mod hoards;
mod loops;
mod reaches;

use guest_support::{HandlerResult, path, query_number, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({
    inline: "package guest:hostile; world imports {
        include wasi:keyvalue/imports@0.2.0-draft2;
        include isomer:sql/imports@0.1.0;
        include isomer:secrets/imports@0.1.0;
    }",
    path: [
        "../../crates/wit/wit/wasi-keyvalue-0.2.0-draft2",
        "../../crates/wit/wit/isomer-sql",
        "../../crates/wit/wit/isomer-secrets",
    ],
    world: "guest:hostile/imports",
    generate_all,
});

wasip3::http::service::export!(Hostile);

struct Hostile;

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(request: Request) -> HandlerResult {
        let path = path(&request);
        let attack = path.rsplit('/').next().unwrap_or_default();
        match attack {
            "canary" => return canary::look(query_number(&request, "bytes", 8 << 20) as usize),
            "" | "ok" => return respond(200, "ok\n"),
            _ => canary::stain(query_number(&request, "stain", 1 << 20) as usize),
        }
        match attack {
            "loop" => loops::plain(),
            "nested-loop" => loops::nested(1000),
            "loop-later" => loops::later().await,
            "loop-in-task" => loops::in_task(),
            "loop-after-answer" => loops::after_answer().await,
            "host-calls" => loops::host_calls(),
            "waiting-calls" => loops::waiting_calls().await,
            "yields" => loops::yields().await,
            "tasks" => loops::tasks().await,
            "wait" => loops::wait().await,
            "sleep" => loops::sleep().await,
            "trap" => core::arch::wasm32::unreachable(),
            "exit" => std::process::exit(0),
            "memory" => hoards::memory(),
            "touch" => hoards::touch(query_number(&request, "bytes", 1 << 20) as usize),
            "recursion" => respond(200, format!("{}\n", hoards::recursion(u64::MAX))),
            "handles" => hoards::handles(),
            "pollables" => hoards::pollables(),
            "streams" => hoards::streams(),
            "subtasks" => hoards::subtasks().await,
            "heavy-methods" => hoards::heavy_methods(query_number(&request, "bytes", 1 << 20) as usize),
            "heavy-fields" => hoards::heavy_fields(),
            "kept-fields" => hoards::kept_fields(query_number(&request, "handles", 1000)).await,
            "kept-values" => hoards::kept_values(query_number(&request, "bytes", 4 << 20) as usize).await,
            "long-names" => floods::long_names(query_number(&request, "bytes", 16 << 20) as usize),
            "random-bytes" => hoards::random_bytes(query_number(&request, "bytes", u64::MAX)),
            "many-polls" => hoards::many_polls(query_number(&request, "count", 4 << 20) as usize),
            "output" => floods::output(),
            "large-output" => floods::large_output(query_number(&request, "bytes", 48 << 20) as usize),
            "forged-lines" => floods::forged_lines(),
            "headers" => floods::headers(query_number(&request, "count", 100_000)),
            "large-header" => floods::large_header(query_number(&request, "bytes", 4 << 20) as usize),
            "body" => floods::endless_body(),
            "stuck-body" => floods::stuck_body(),
            "unread-body" => floods::unread_body(request).await,
            "slow-reader" => floods::slow_reader(request).await,
            "keys" => floods::keys(query_number(&request, "bytes", 1 << 20) as usize),
            "large-value" => floods::large_value(query_number(&request, "bytes", 64 << 20) as usize),
            "rows" => floods::rows(request).await,
            "deep-folders" => floods::deep_folders(query_number(&request, "levels", 60_000)),
            "fill-disk" => {
                floods::fill_disk(query_number(&request, "folders", 2600), query_number(&request, "bytes", 3 << 30))
            }
            "self" => reaches::itself(request).await,
            "fetch" => reaches::fetch(request).await,
            "files" => reaches::files(request).await,
            "sockets" => reaches::sockets(),
            "stores" => reaches::stores(request).await,
            "sql" => reaches::sql(request).await,
            "environment" => reaches::environment(),
            other => respond(404, format!("no such attack `{other}`\n")),
        }
    }
}
