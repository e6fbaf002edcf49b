//! The page with the cart and the checkout form.

use boutique_types::Money;
use maud::{Markup, html};

use super::Frame;
use super::goods::{picture, recommended};
use crate::browse::Priced;
use crate::buy::Line;
use crate::failure::FieldError;
use crate::forms::Filled;

/// The number of years after the current year in the list for the card's expiry date.
const YEARS: u64 = 12;

/// The data that the cart page shows.
pub(crate) struct CartPage<'a> {
    pub(crate) lines: &'a [Line],
    pub(crate) shipping: &'a Money,
    pub(crate) days: (u32, u32),
    pub(crate) total: &'a Money,
    pub(crate) recommended: &'a [Priced],
    /// The current year, which is the first year in the list for the card's expiry date.
    pub(crate) year: u64,
    pub(crate) filled: Filled<'a>,
    pub(crate) errors: &'a [FieldError],
}

pub(crate) fn cart(frame: &Frame, page: &CartPage<'_>) -> Markup {
    let content = html! {
        (summary_of_errors(page))
        @if page.lines.is_empty() {
            section.notice {
                h1 { "Your cart is empty" }
                p { "What you put into it stays there, even if we are switched off and on again." }
                p { a.button href="/" { "See what we have" } }
            }
        } @else {
            h1 { "Your cart" }
            div.cart {
                section.cart-lines aria-label="Products" {
                    (lines(frame, page.lines))
                    dl.sums {
                        dt { "Shipping" span.small { (page.days.0) " to " (page.days.1) " working days" } }
                        dd { (frame.amount(page.shipping)) }
                        dt.total { "Total" }
                        dd.total { (frame.amount(page.total)) }
                    }
                    form action="/cart/empty" method="post" { button.quiet type="submit" { "Empty the cart" } }
                }
                (checkout_form(frame, page))
            }
        }
        (recommended(frame, page.recommended, "You may also like"))
    };
    frame.page("Cart", &content)
}

fn summary_of_errors(page: &CartPage<'_>) -> Markup {
    html! {
        @if !page.errors.is_empty() {
            div.errors role="alert" {
                p { strong { "The order was not placed." } " Nothing was charged, and your cart is as it was." }
                ul {
                    @for error in page.errors {
                        li {
                            a href={ "#" (error.field) } { (label_of(error.field)) }
                            ": " (error.message)
                        }
                    }
                }
            }
        }
    }
}

fn lines(frame: &Frame, lines: &[Line]) -> Markup {
    html! {
        ul.lines #cart {
            @for line in lines {
                @let product = &line.priced.product;
                li.line {
                    a.line-picture href={ "/product/" (product.id) } { (picture(product, 96)) }
                    div {
                        a.line-name href={ "/product/" (product.id) } { (product.name) }
                        span.small { (line.quantity) " × " (frame.amount(&line.priced.price)) }
                    }
                    span.line-cost { (frame.amount(&line.cost)) }
                }
            }
        }
    }
}

fn checkout_form(frame: &Frame, page: &CartPage<'_>) -> Markup {
    html! {
        form.checkout action="/cart/checkout" method="post" {
            @if matches!(page.filled, Filled::Sample) {
                p.hint { "This is an example, so the form is filled in with a sample address and a test card." }
            }
            fieldset {
                legend { "Delivery address" }
                (field(page, "email", "email", "email"))
                (field(page, "street_address", "text", "street-address"))
                div.pair {
                    (field(page, "zip_code", "text", "postal-code"))
                    (field(page, "city", "text", "address-level2"))
                }
                div.pair {
                    (field(page, "state", "text", "address-level1"))
                    (field(page, "country", "text", "country-name"))
                }
            }
            fieldset {
                legend { "How it is paid" }
                (field(page, "credit_card_number", "text", "cc-number"))
                div.triple {
                    (choice(page, "credit_card_expiration_month", "cc-exp-month", 1..=12))
                    (choice(page, "credit_card_expiration_year", "cc-exp-year", page.year..=page.year + YEARS))
                    (field(page, "credit_card_cvv", "text", "cc-csc"))
                }
            }
            button.button.wide type="submit" { "Pay " (frame.amount(page.total)) }
        }
    }
}

fn field(page: &CartPage<'_>, name: &'static str, kind: &str, autocomplete: &str) -> Markup {
    let numeric = name.starts_with("credit_card");
    html! {
        div.field {
            label for=(name) { (label_of(name)) @if name == "state" { span.small { " (if any)" } } }
            input id=(name) name=(name) type=(kind) value=(page.filled.value(name)) autocomplete=(autocomplete)
                required[name != "state"] inputmode=[numeric.then_some("numeric")] maxlength=(length_max(name))
                aria-invalid=[message(page, name).map(|_| "true")]
                aria-describedby=[message(page, name).map(|_| format!("{name}-error"))];
            (message_at(page, name))
        }
    }
}

fn choice(
    page: &CartPage<'_>,
    name: &'static str,
    autocomplete: &str,
    numbers: std::ops::RangeInclusive<u64>,
) -> Markup {
    // By default, the next year is selected, so that the sample card has not expired.
    let chosen = match page.filled.value(name).parse() {
        Ok(number) => number,
        Err(_) => page.year + 1,
    };
    let outside = (!numbers.contains(&chosen)).then_some(chosen);
    html! {
        div.field {
            label for=(name) { (label_of(name)) }
            select id=(name) name=(name) autocomplete=(autocomplete) required
                aria-invalid=[message(page, name).map(|_| "true")]
                aria-describedby=[message(page, name).map(|_| format!("{name}-error"))] {
                @for number in numbers.chain(outside) {
                    option value=(number) selected[number == chosen] { (format!("{number:02}")) }
                }
            }
            (message_at(page, name))
        }
    }
}

fn message<'a>(page: &CartPage<'a>, name: &str) -> Option<&'a str> {
    page.errors.iter().find(|error| error.field == name).map(|error| error.message.as_str())
}

fn message_at(page: &CartPage<'_>, name: &str) -> Markup {
    html! {
        @if let Some(message) = message(page, name) { p.field-error id={ (name) "-error" } { (message) } }
    }
}

fn length_max(name: &str) -> u32 {
    match name {
        "email" => 254,
        "street_address" => 200,
        "zip_code" => 12,
        "credit_card_number" => 40,
        "credit_card_cvv" => 4,
        _ => 100,
    }
}

fn label_of(name: &str) -> &'static str {
    match name {
        "email" => "Email",
        "street_address" => "Street and number",
        "zip_code" => "Postal code",
        "city" => "City",
        "state" => "State",
        "country" => "Country",
        "credit_card_number" => "Card number",
        "credit_card_expiration_month" => "Month",
        "credit_card_expiration_year" => "Year",
        "credit_card_cvv" => "Security code",
        "currency_code" => "Currency",
        _ => "Cart",
    }
}
