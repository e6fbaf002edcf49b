//! An HTTP handler that calls the component `seam-callee` over a seam.
//!
//! | path of the request | calls | response |
//! | --- | --- | --- |
//! | `/add?a=N&b=M` | one addition | the sum |
//! | `/adds?n=N` | N additions, one after another | `sum=N` |
//! | `/change?name=N&count=C` | sends an item, which the callee changes | the changed item as `NAME COUNT TAGS PRICE` |
//! | `/echo` | sends the request's body, which the callee returns | the returned bytes |
//! | `/make?bytes=N` | requests N bytes from the callee | the number of bytes received |
//! | `/send?bytes=N` | sends N bytes, which the callee returns | the number of bytes returned |
//! | `/act?what=W`, `/act-later?what=W` | action W of the callee | the callee's result |
//! | `/act-carefully?what=W`, `/act-later-carefully?what=W` | action W of the callee | the callee's result, or 422 with its error |
//! | `/wait?ms=M` | a wait of M milliseconds | `waited`, after the wait |
//! | `/join?ms=A,B,C` | concurrent waits of A, B and C milliseconds | `A B C`, after all waits |
//! | `/race?ms=M` | a wait of M milliseconds, which is cancelled after another wait of 1 ms | the name of the shorter wait |
//! | `/leave?ms=M` | the callee returns an item immediately, and continues to run for M milliseconds | the item |
//! | `/memory` | none | `memory=N`, the size of the handler's own memory in bytes |
//! | any other | none | `caller` |

use guest_support::{HandlerResult, body_bytes, path, query, query_number, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({ path: ["../../crates/wit/wit/isomer-link", "../seam-callee/wit"], world: "guest:seam/caller", generate_all });

use guest::seam::work::{self, Failure, Item};
use isomer::link::types::CallError;

wasip3::http::service::export!(Caller);

struct Caller;

impl wasip3::exports::http::handler::Guest for Caller {
    async fn handle(request: Request) -> HandlerResult {
        let number = |key| query_number(&request, key, 0) as u32;
        let what = query(&request, "what").unwrap_or_default();
        match path(&request).as_str() {
            "/add" => respond(200, format!("{}\n", work::add(number("a"), number("b")))),
            "/adds" => {
                let sum = (0..number("n")).fold(0, |sum, _| work::add(sum, 1));
                respond(200, format!("sum={sum}\n"))
            }
            "/change" => {
                let name = query(&request, "name").unwrap_or_default();
                let tags = vec!["first".to_owned(), String::new(), "ünïcode".to_owned()];
                let item = Item { name, count: number("count"), tags, price: Some(0.1) };
                respond(200, show(&work::change(&item)))
            }
            "/echo" => respond(200, work::echo(&body_bytes(request).await)),
            "/make" => respond(200, format!("{}\n", work::make(number("bytes")).len())),
            "/send" => respond(200, format!("{}\n", work::echo(&vec![7; number("bytes") as usize]).len())),
            "/act" => respond(200, format!("{}\n", work::act(&what))),
            "/act-later" => respond(200, format!("{}\n", work::act_later(what).await)),
            "/act-carefully" => show_result(work::act_carefully(&what)),
            "/act-later-carefully" => show_result(work::act_later_carefully(what).await),
            "/wait" => respond(200, format!("{}\n", work::wait("waited".to_owned(), number("ms")).await)),
            "/join" => {
                let times = query(&request, "ms").unwrap_or_default();
                let waits = times.split(',').filter_map(|ms| Some(work::wait(ms.to_owned(), ms.parse().ok()?)));
                let names = futures::future::join_all(waits).await;
                respond(200, format!("{}\n", names.join(" ")))
            }
            "/race" => {
                let slow = work::wait("slow".to_owned(), number("ms"));
                let quick = work::wait("quick".to_owned(), 1);
                let (first, _) = futures::future::select(Box::pin(slow), Box::pin(quick)).await.factor_first();
                respond(200, format!("{first}\n"))
            }
            "/leave" => {
                let item = Item { name: "leaver".to_owned(), count: 1, tags: vec![], price: None };
                respond(200, show(&work::leave(item, number("ms")).await))
            }
            "/memory" => respond(200, format!("memory={}\n", core::arch::wasm32::memory_size(0) << 16)),
            _ => respond(200, "caller\n"),
        }
    }
}

fn show(item: &Item) -> String {
    format!("{} {} {} {:?}\n", item.name, item.count, item.tags.join("|"), item.price)
}

fn show_result(result: Result<String, Failure>) -> HandlerResult {
    match result {
        Ok(text) => respond(200, format!("{text}\n")),
        Err(Failure::Unknown(what)) => respond(422, format!("unknown: {what}\n")),
        Err(Failure::Lost(error)) => respond(
            422,
            match error {
                CallError::Unreachable => "lost: unreachable\n",
                CallError::Deadline => "lost: deadline\n",
                CallError::Overloaded => "lost: overloaded\n",
                CallError::Refused => "lost: refused\n",
            },
        ),
    }
}
