//! The email component: renders the confirmation of an order. Instead of sending the mail, it prints a line to stdout.

use boutique_types::{Confirmation, MailError, Order};

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "email-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Email;

impl bindings::exports::boutique::shop::email::Guest for Email {
    async fn send_confirmation(order: Order) -> Result<Confirmation, MailError> {
        let mail = boutique_orders::confirmation(&order)?;
        println!("mail to {}: {} ({} bytes)", masked(&mail.to), mail.subject, mail.body.len());
        Ok(mail)
    }
}

/// Returns an address in a form that may be logged: `s…@example.com` for `someone@example.com`.
fn masked(address: &str) -> String {
    match address.split_once('@') {
        Some((local, domain)) => format!("{}…@{domain}", local.chars().next().unwrap_or_default()),
        None => "…".into(),
    }
}

bindings::export!(Email with_types_in bindings);
