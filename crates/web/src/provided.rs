//! The interfaces that the service worker provides to components.

/// The interfaces of WASI that the service worker provides, without versions. `assets/wasi.js` and `assets/http.js`
/// implement them.
pub const PROVIDED: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:clocks/wall-clock",
    "wasi:config/runtime",
    "wasi:config/store",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:logging/logging",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The interface that stubs import, without its version. `assets/calls.js` implements it.
pub(crate) const WIRE: &str = "isomer:link/wire";

/// The functions that wait although they are not `async func`s, by interface without version. The stack of the caller is
/// suspended while they wait.
const SUSPENDING: [(&str, &str); 3] =
    [(WIRE, "call"), ("wasi:io/poll", "[method]pollable.block"), ("wasi:io/poll", "poll")];

/// Returns the id of an interface without its version.
pub(crate) fn without_version(interface: &str) -> &str {
    interface.split_once('@').map_or(interface, |(path, _)| path)
}

/// Returns whether the service worker provides an interface. `interface` may contain a version.
pub(crate) fn is_provided(interface: &str) -> bool {
    let path = without_version(interface);
    path == WIRE || PROVIDED.contains(&path)
}

/// Returns the functions of an interface that wait although they are not `async func`s.
pub(crate) fn suspending(interface: &str) -> impl Iterator<Item = &'static str> {
    let path = without_version(interface);
    SUSPENDING.into_iter().filter(move |(other, _)| *other == path).map(|(_, function)| function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_provides_exactly_these_interfaces() {
        let sources = concat!(include_str!("../assets/wasi.js"), include_str!("../assets/http.js"));
        let mut provided: Vec<&str> = sources
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix("  \"").or_else(|| line.strip_prefix("PROVIDERS[\""))?;
                rest.split_once('"').map(|(name, _)| name)
            })
            .collect();
        provided.sort_unstable();
        assert_eq!(provided, PROVIDED);
    }

    #[test]
    fn only_waiting_functions_suspend() {
        assert_eq!(suspending("isomer:link/wire@1.0.0").collect::<Vec<_>>(), ["call"]);
        assert_eq!(suspending("wasi:io/poll@0.2.6").collect::<Vec<_>>(), ["[method]pollable.block", "poll"]);
        assert_eq!(suspending("wasi:random/random@0.3.0").count(), 0);
        assert!(is_provided("isomer:link/wire@1.0.0") && !is_provided("wasi:keyvalue/store@0.2.0-draft"));
    }
}
