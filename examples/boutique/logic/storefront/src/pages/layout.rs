//! The layout that all pages share: header, search, currency, cart, footer.

use boutique_types::{CurrencyInfo, Money};
use maud::{DOCTYPE, Markup, html};

use crate::assets::url;
use crate::visitor::Visitor;

/// The data of the layout around a page's content.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    currencies: Vec<CurrencyInfo>,
    /// The visitor's currency; `None` if the visitor is unknown.
    currency: Option<CurrencyInfo>,
    /// The number of pieces in the cart, the sum of all quantities; `None` if the cart was not read.
    pieces: Option<u32>,
}

impl Frame {
    /// Creates the layout's data for a visitor. `pieces` is the number of pieces in the cart.
    pub(crate) fn of(visitor: &Visitor, pieces: Option<u32>) -> Self {
        Self { currencies: visitor.currencies.clone(), currency: Some(visitor.currency.clone()), pieces }
    }

    /// Creates the layout's data for an unknown visitor.
    pub(crate) fn plain() -> Self {
        Self { currencies: Vec::new(), currency: None, pieces: None }
    }

    /// Renders an amount with the symbol of its currency, or with the currency's code if the shop does not support the
    /// currency. Amounts are not converted, so an old order keeps its currency.
    pub(crate) fn amount(&self, amount: &Money) -> String {
        match self.currencies.iter().find(|currency| currency.code == amount.currency_code) {
            Some(currency) => amount.display(&currency.symbol, currency.digits),
            None => amount.to_string(),
        }
    }

    /// Renders a complete page around `content`.
    pub(crate) fn page(&self, title: &str, content: &Markup) -> Markup {
        self.page_with_search(title, "", content)
    }

    /// Renders a complete page around `content`, with `query` in the search field.
    pub(crate) fn page_with_search(&self, title: &str, query: &str, content: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Boutique" }
                    link rel="icon" type="image/svg+xml" href=(url("favicon.svg"));
                    link rel="stylesheet" href=(url("shop.css"));
                }
                body {
                    a.skip href="#content" { "To the content" }
                    header.top {
                        div.top-inner {
                            a.brand href="/" { img src=(url("logo.svg")) alt="" width="34" height="34"; span { "Boutique" } }
                            form.search action="/search" role="search" {
                                input type="search" name="q" value=(query) placeholder="Search the shop" aria-label="Search the shop" maxlength="100";
                            }
                            nav.top-links aria-label="Yours" {
                                a href="/orders" { "Orders" }
                                a.cart-link href="/cart" {
                                    "Cart"
                                    @if let Some(pieces) = self.pieces.filter(|pieces| *pieces > 0) {
                                        span.badge { (pieces) span.only-heard { " pieces" } }
                                    }
                                }
                            }
                            (self.currency_form())
                        }
                    }
                    main #content { (content) }
                    footer.foot {
                        div.foot-inner {
                            p { "Boutique is an example: eleven WebAssembly components in one process. Nothing is sold, nothing is sent, no card is charged." }
                            p { a href="/" { "All products" } " · " a href="/orders" { "Your orders" } " · " a href="/logout" { "Forget me" } }
                        }
                    }
                }
            }
        }
    }

    fn currency_form(&self) -> Markup {
        let Some(chosen) = &self.currency else { return html! {} };
        html! {
            form.currency action="/setCurrency" method="post" {
                select name="currency_code" aria-label="Currency" {
                    @for currency in &self.currencies {
                        option value=(currency.code) selected[currency.code == chosen.code] title=(currency.name) {
                            (currency.code)
                            @if currency.symbol != currency.code { " " (currency.symbol) }
                        }
                    }
                }
                button.quiet type="submit" { "Set" }
            }
        }
    }
}
