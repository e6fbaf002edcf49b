//! An HTTP handler that calls the component `pong`.
//!
//! | path of the request | calls | response |
//! | --- | --- | --- |
//! | `/greet?name=N` | one greeting | `pong to N (count C)`, or 422 with pong's error |
//! | `/later?name=N&ms=M` | one greeting after M milliseconds | the same |
//! | `/many?n=N` | N greetings, one after another | `greeted=N` |
//! | `/reverse` | reverses the request's body | the reversed body |
//! | `/trap` | pong traps | |
//! | `/env?name=N` | reads the environment variable N in both components, which also print it to stdout | `ping=V pong=V` |
//! | `/time-and-chance` | reads the time of day and random numbers in both components | those of ping, and on a second line those of pong |
//! | any other | none | `ping` |

use guest_support::{HandlerResult, body_bytes, path, query, query_number, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({ path: ["../pong/wit"], world: "guest:pong/pinger", generate_all });

use guest::pong::pong::{self, Refusal, Reply};

wasip3::http::service::export!(Ping);

struct Ping;

impl wasip3::exports::http::handler::Guest for Ping {
    async fn handle(request: Request) -> HandlerResult {
        let name = query(&request, "name").unwrap_or_default();
        match path(&request).as_str() {
            "/greet" => show(pong::greet(&name)),
            "/later" => show(pong::greet_later(name, query_number(&request, "ms", 10) as u32).await),
            "/many" => {
                let count = query_number(&request, "n", 100);
                let greeted = (0..count).filter(|_| pong::greet("ping").is_ok()).count();
                respond(200, format!("greeted={greeted}\n"))
            }
            "/reverse" => respond(200, pong::reverse(&body_bytes(request).await)),
            "/trap" => {
                pong::trap();
                respond(200, "not reached\n")
            }
            "/time-and-chance" => {
                let own = guest_support::time_and_chance();
                respond(200, format!("{own}\n{}\n", pong::time_and_chance()))
            }
            "/env" => {
                let value = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
                let own = value(std::env::var(&name).ok());
                println!("ping sees {name}={own}");
                respond(200, format!("ping={own} pong={}\n", value(pong::environment(&name))))
            }
            _ => respond(200, "ping\n"),
        }
    }
}

fn show(result: Result<Reply, Refusal>) -> HandlerResult {
    match result {
        Ok(reply) => respond(200, format!("{} (count {})\n", reply.text, reply.count)),
        Err(Refusal::EmptyName) => respond(422, "empty name\n"),
        Err(Refusal::TooLong(bytes)) => respond(422, format!("name of {bytes} bytes is too long\n")),
    }
}
