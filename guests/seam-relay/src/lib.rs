//! The middle component of a chain of calls. It passes its argument to the next component and prints a line.

wit_bindgen::generate!({ path: ["../../crates/wit/wit/isomer-link", "../seam-callee/wit"], world: "guest:seam/relayer", generate_all });

use exports::guest::seam::relay::Guest;
use guest::seam::work;

export!(Relay);

struct Relay;

impl Guest for Relay {
    fn pass(what: String) -> String {
        println!("calling the next component with `{what}`");
        work::act(&what)
    }

    async fn pass_later(what: String) -> String {
        println!("calling the next component with `{what}`");
        work::act_later(what).await
    }
}
