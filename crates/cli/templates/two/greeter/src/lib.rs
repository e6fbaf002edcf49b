//! Makes greetings: implements `app:greeter/greetings`.

// `generate_all` also generates bindings for imports from other packages, such as the platform's in `wit/deps`.
wit_bindgen::generate!({ path: "../wit", world: "app:greeter/greeter", generate_all });

use exports::app::greeter::greetings::{Guest, Refusal};

struct Greeter;

export!(Greeter);

const NAME_CHARS_MAX: u32 = 40;

impl Guest for Greeter {
    fn greet(name: String) -> Result<String, Refusal> {
        if name.is_empty() {
            return Err(Refusal::NoName);
        }
        if name.chars().count() > NAME_CHARS_MAX as usize {
            return Err(Refusal::TooLong(NAME_CHARS_MAX));
        }
        let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Good day".to_owned());
        Ok(format!("{greeting}, {name}!"))
    }
}
