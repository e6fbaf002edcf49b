//! The payment component: charges a card, or returns the reason for refusing it. The component neither stores nor logs
//! the card's data.

use boutique_types::{Card, Date, Money, Receipt, Refusal};
use wasip3::clocks::system_clock;
use wasip3::random::random::get_random_u64;

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "payment-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Payment;

impl bindings::exports::boutique::shop::payment::Guest for Payment {
    async fn charge(order_id: String, amount: Money, card: Card) -> Result<Receipt, Refusal> {
        // If the clock shows a time before 1970, no card counts as expired.
        let today = Date::from_seconds(u64::try_from(system_clock::now().seconds).unwrap_or(0));
        let card = boutique_cards::check(&card, &amount, (today.year, today.month))?;
        let transaction_id = boutique_cards::transaction_id(get_random_u64());
        println!("order {order_id}: charged {amount} as {transaction_id}");
        Ok(Receipt { transaction_id, card })
    }
}

bindings::export!(Payment with_types_in bindings);
