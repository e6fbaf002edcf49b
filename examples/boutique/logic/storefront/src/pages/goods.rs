//! The home page, the product page and the search page.

use boutique_types::{Ad, Product};
use maud::{Markup, html};

use super::Frame;
use crate::assets::url;
use crate::browse::Priced;
use crate::forms::QUANTITY_MAX;

pub(crate) fn home(frame: &Frame, products: &[Priced], ads: &[Ad]) -> Markup {
    let content = html! {
        section.hero {
            div.hero-text {
                h1 { "Nine good things." }
                p { "A small shop for the room you live in: made slowly, kept for long, and sent in paper." }
                p { a.button href="#products" { "Have a look" } }
            }
            img.hero-picture src=(url("hero.svg")) alt="A shelf with a lamp, a fern, a clock, a kettle and a mug" width="640" height="420";
        }
        (ad_strip(ads))
        section #products aria-labelledby="products-title" {
            h2 #products-title { "In the shop" }
            (grid(frame, products))
        }
    };
    frame.page("Nine good things", &content)
}

pub(crate) fn product(frame: &Frame, shown: &Priced, others: &[Priced], ads: &[Ad]) -> Markup {
    let product = &shown.product;
    let content = html! {
        article.product {
            div.product-picture { (picture(product, 560)) }
            div.product-text {
                p.kicker {
                    @for (index, category) in product.categories.iter().enumerate() {
                        @if index > 0 { " · " }
                        a href={ "/search?q=" (category) } { (category) }
                    }
                }
                h1 { (product.name) }
                p.price { (frame.amount(&shown.price)) }
                p.lead { (product.summary) }
                p { (product.description) }
                form.add action="/cart" method="post" {
                    input type="hidden" name="product_id" value=(product.id);
                    label { "Quantity"
                        select name="quantity" {
                            @for quantity in 1..=QUANTITY_MAX { option value=(quantity) { (quantity) } }
                        }
                    }
                    button.button type="submit" { "Add to cart" }
                }
                ul.facts {
                    li { "Sent within three working days" }
                    li { "Thirty days to change your mind" }
                    li { "Repaired for as long as you have it" }
                }
            }
        }
        (recommended(frame, others, "Goes well with it"))
        (ad_strip(ads))
    };
    frame.page(&product.name, &content)
}

pub(crate) fn search(frame: &Frame, query: &str, found: &[Priced]) -> Markup {
    let content = html! {
        section {
            @if query.is_empty() {
                h1 { "Search" }
                p { "Write a word into the field above: " a href="/search?q=kitchen" { "kitchen" } ", for example, or "
                    a href="/search?q=glass" { "glass" } "." }
            } @else if found.is_empty() {
                h1 { "Nothing for “" (query) "”" }
                p { "We only have nine things. " a href="/" { "Here are all of them." } }
            } @else {
                h1 { (found.len()) @if found.len() == 1 { " thing" } @else { " things" } " for “" (query) "”" }
                (grid(frame, found))
            }
        }
    };
    frame.page_with_search("Search", query, &content)
}

/// Renders a grid of products.
fn grid(frame: &Frame, products: &[Priced]) -> Markup {
    html! {
        ul.grid {
            @for shown in products {
                li {
                    a.card href={ "/product/" (shown.product.id) } {
                        (picture(&shown.product, 360))
                        span.card-text {
                            span.card-name { (shown.product.name) }
                            span.card-price { (frame.amount(&shown.price)) }
                            span.card-summary { (shown.product.summary) }
                        }
                    }
                }
            }
        }
    }
}

/// Renders recommended products.
pub(super) fn recommended(frame: &Frame, products: &[Priced], title: &str) -> Markup {
    html! {
        @if !products.is_empty() {
            section.recommended {
                h2 { (title) }
                (grid(frame, products))
            }
        }
    }
}

/// Renders a product's picture.
pub(super) fn picture(product: &Product, size: u32) -> Markup {
    html! {
        img.picture src=(url(&format!("products/{}", product.picture))) alt=(product.name) width=(size) height=(size);
    }
}

fn ad_strip(ads: &[Ad]) -> Markup {
    html! {
        @for ad in ads {
            aside.ad aria-label="Advertisement" { span.ad-mark { "Ad" } a href={ "/product/" (ad.product_id) } { (ad.text) } }
        }
    }
}
