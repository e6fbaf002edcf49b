//! The mail that confirms an order.

use std::fmt::Write;

use boutique_types::{Confirmation, Date, MailError, Order};

/// The width in columns of the product names in the mail's list.
const NAME_COLUMNS: usize = 34;

/// Renders the confirmation mail of an order as plain text.
///
/// # Errors
/// [`MailError::InvalidAddress`] if the order's address is not a valid mail address.
pub fn confirmation(order: &Order) -> Result<Confirmation, MailError> {
    let to = order.email.trim();
    let is_address = to.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'));
    if !is_address || to.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(MailError::InvalidAddress);
    }
    Ok(Confirmation { to: to.into(), subject: format!("Your order {}", order.id), body: body(order) })
}

fn body(order: &Order) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.extend(words.chars().filter(|character| !character.is_control()));
        text.push('\n');
    };
    line("Thank you for your order.");
    line("");
    line(&format!("Order     {}", order.id));
    line(&format!("Placed    {}", Date::from_seconds(order.placed_at).long()));
    if let Some(tracking_id) = &order.tracking_id {
        line(&format!("Tracking  {tracking_id}"));
    }
    line("");
    for item in &order.lines {
        let cost = item.unit_price.times(item.quantity).map_or_else(|_| String::new(), |cost| cost.to_string());
        line(&row(&format!("{} × {}", item.quantity, item.name), &cost));
    }
    line(&row("Shipping", &order.shipping_cost.to_string()));
    line(&row("Total", &order.total.to_string()));
    line("");
    line("Deliver to");
    let address = &order.address;
    line(&format!("  {}", address.street));
    line(&format!("  {} {}", address.zip_code, address.city));
    match &address.state {
        Some(state) => line(&format!("  {state}, {}", address.country)),
        None => line(&format!("  {}", address.country)),
    }
    line("");
    line("Boutique is an example: nothing was sold and no card was charged.");
    text
}

fn row(name: &str, amount: &str) -> String {
    let mut text = String::new();
    write!(text, "{name:<NAME_COLUMNS$}{amount:>16}").expect("writing to a string never fails");
    text
}

#[cfg(test)]
mod tests {
    use boutique_types::{Address, Money, OrderLine};

    use super::*;
    use crate::pending;

    fn order() -> Order {
        let address = Address {
            street: "12 Harbour Lane".into(),
            city: "Port".into(),
            state: None,
            zip_code: "1234".into(),
            country: "Nowhere".into(),
        };
        let line = OrderLine {
            product_id: "6E92ZMYYFZ".into(),
            name: "Pebble Mug".into(),
            quantity: 2,
            unit_price: Money::new("USD", 16, 990_000_000),
        };
        let shipping = Money::new("USD", 4, 900_000_000);
        let order =
            pending("AAAA-BBBB-CCCC".into(), 951_782_400, "a@example.com".into(), address, vec![line], shipping);
        order.expect("the amounts fit")
    }

    #[test]
    fn the_mail_lists_the_order_and_the_address() {
        let order = Order { tracking_id: Some("LB473124829XB".into()), ..order() };
        let mail = confirmation(&order).expect("the address is valid");
        assert_eq!((mail.to.as_str(), mail.subject.as_str()), ("a@example.com", "Your order AAAA-BBBB-CCCC"));
        assert_eq!(
            mail.body,
            "Thank you for your order.\n\
             \n\
             Order     AAAA-BBBB-CCCC\n\
             Placed    29 February 2000, 00:00 UTC\n\
             Tracking  LB473124829XB\n\
             \n\
             2 × Pebble Mug                           33.98 USD\n\
             Shipping                                  4.90 USD\n\
             Total                                    38.88 USD\n\
             \n\
             Deliver to\n  \
               12 Harbour Lane\n  \
               1234 Port\n  \
               Nowhere\n\
             \n\
             Boutique is an example: nothing was sold and no card was charged.\n"
        );
    }

    #[test]
    fn control_characters_are_removed_from_the_mail() {
        let mut order = order();
        order.address.street = "1 Road\r\nBcc: all@example.com".into();
        let mail = confirmation(&order).expect("the address is valid");
        assert!(mail.body.contains("1 RoadBcc: all"), "{}", mail.body);
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for email in ["", "a", "@example.com", "a@b", "a b@example.com", "a@example.com\nBcc: b@example.com"] {
            let order = Order { email: email.into(), ..order() };
            assert_eq!(confirmation(&order), Err(MailError::InvalidAddress), "{email}");
        }
    }
}
