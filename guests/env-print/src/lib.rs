//! Reports its environment. The response has lines `arg=…`, then sorted lines `env=K=V`, then sorted lines
//! `config=K=V`. The guest prints the same lines to stdout, and `stderr of env-print` to stderr. `/config?key=K` reads
//! one configuration value; the response is `some=V`, `none` or `error=…`.

use guest_support::{HandlerResult, path, query, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({
    inline: "package guest:env-print; world imports { import wasi:config/store@0.2.0-rc.1; }",
    path: ["../../crates/wit/wit/wasi-config-0.2.0-rc.1"],
    world: "guest:env-print/imports",
    generate_all,
});

use wasi::config::store;

wasip3::http::service::export!(EnvPrint);

struct EnvPrint;

impl wasip3::exports::http::handler::Guest for EnvPrint {
    async fn handle(request: Request) -> HandlerResult {
        if path(&request) == "/config" {
            let key = query(&request, "key").unwrap_or_default();
            return respond(
                200,
                match store::get(&key) {
                    Ok(Some(value)) => format!("some={value}\n"),
                    Ok(None) => "none\n".to_owned(),
                    Err(error) => format!("error={error:?}\n"),
                },
            );
        }
        let mut environment: Vec<_> = std::env::vars().map(|(key, value)| format!("env={key}={value}")).collect();
        environment.sort();
        let mut config = match store::get_all() {
            Ok(values) => values.into_iter().map(|(key, value)| format!("config={key}={value}")).collect(),
            Err(error) => vec![format!("config-error={error:?}")],
        };
        config.sort();
        let arguments = std::env::args().map(|argument| format!("arg={argument}"));
        let lines: Vec<_> = arguments.chain(environment).chain(config).collect();
        for line in &lines {
            println!("{line}");
        }
        eprintln!("stderr of env-print");
        respond(200, lines.join("\n") + "\n")
    }
}
