//! The shop's pages. Their markup is written with maud, which escapes all texts.

mod cart;
mod goods;
mod layout;
mod order;

use boutique_types::CardBrand;
use maud::{Markup, html};

pub(crate) use cart::{CartPage, cart};
pub(crate) use goods::{home, product, search};
pub(crate) use layout::Frame;
pub(crate) use order::{order, orders, placed};

use crate::failure::FieldError;

/// Renders a page that reports a failure.
pub(crate) fn error(frame: &Frame, status: u16, title: &str, explanation: &str, fields: &[FieldError]) -> Markup {
    let content = html! {
        section.notice {
            p.notice-code { (status) }
            h1 { (title) }
            p { (explanation) }
            @if !fields.is_empty() {
                ul.notice-fields {
                    @for field in fields { li { code { (field.field) } " – " (field.message) } }
                }
            }
            p { a.button href="/" { "Back to the shop" } }
        }
    };
    frame.page(title, &content)
}

/// Returns the displayed name of a card brand.
pub(crate) fn brand_name(brand: CardBrand) -> &'static str {
    match brand {
        CardBrand::Visa => "Visa",
        CardBrand::Mastercard => "Mastercard",
        CardBrand::AmericanExpress => "American Express",
        CardBrand::Discover => "Discover",
        CardBrand::Jcb => "JCB",
        CardBrand::DinersClub => "Diners Club",
        CardBrand::Maestro => "Maestro",
        CardBrand::UnionPay => "UnionPay",
        CardBrand::Unknown => "cards of this brand",
    }
}
