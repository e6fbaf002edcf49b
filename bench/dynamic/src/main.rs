//! `isomer-bench-dynamic CALLER.wasm CALLEE.wasm`: links two components by dynamic values and prints the URL under
//! which it serves `GET /run?…`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program that prints its address")]

use std::error::Error;

use isomer_bench_dynamic::Linked;
use isomer_bench_programs::serve_runs;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [caller, callee] = arguments.as_slice() else {
        return Err("usage: isomer-bench-dynamic CALLER.wasm CALLEE.wasm".into());
    };
    let read = |path: &String| std::fs::read(path).map_err(|error| format!("cannot read `{path}`: {error}"));
    let (caller, callee) = (read(caller)?, read(callee)?);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let linked = Linked::new(&caller, &callee).await.map_err(|error| format!("{error:#}"))?;
        let run = move |query| {
            let linked = linked.clone();
            async move { linked.run(query).await }
        };
        serve_runs(|url| println!("{url}"), run).await?;
        Ok(())
    })
}
