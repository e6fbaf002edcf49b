//! The pages of orders: the order that was just placed, an earlier order, and the list of orders.

use boutique_types::{Date, Order, OrderStatus, OrderSummary, PlacedOrder};
use maud::{Markup, html};

use super::{Frame, brand_name};

/// Renders the page that is shown after a checkout.
pub(crate) fn placed(frame: &Frame, placed: &PlacedOrder) -> Markup {
    let order = &placed.order;
    let content = html! {
        section.thanks {
            p.tick aria-hidden="true" { "✓" }
            h1 { "Thank you. Your order is placed." }
            p {
                @match &placed.confirmation {
                    Some(confirmation) => { "A confirmation is on its way to " strong { (confirmation.to) } "." }
                    None => { "We could not send the confirmation by mail; please keep this page instead." }
                }
            }
        }
        (details(frame, order))
        @if let Some(confirmation) = &placed.confirmation {
            details.mail {
                summary { "Read the mail that we sent" }
                p.small { strong { (confirmation.subject) } }
                pre { (confirmation.body) }
            }
        }
        p.actions { a.button href="/" { "Back to the shop" } " " a href={ "/orders/" (order.id) } { "This order’s own page" } }
    };
    frame.page("Order placed", &content)
}

/// Renders one order.
pub(crate) fn order(frame: &Frame, order: &Order) -> Markup {
    let content = html! {
        p.kicker { a href="/orders" { "Your orders" } }
        h1 { "Order " (order.id) }
        (details(frame, order))
    };
    frame.page(&format!("Order {}", order.id), &content)
}

/// Renders the list of the visitor's orders.
pub(crate) fn orders(frame: &Frame, orders: &[OrderSummary]) -> Markup {
    let content = html! {
        @if orders.is_empty() {
            section.notice {
                h1 { "No orders yet" }
                p { "What you order in this browser is listed here." }
                p { a.button href="/" { "See what we have" } }
            }
        } @else {
            h1 { "Your orders" }
            ul.orders {
                @for order in orders {
                    li {
                        a.order-row href={ "/orders/" (order.id) } {
                            span.order-id { (order.id) }
                            span.small { (Date::from_seconds(order.placed_at).long()) }
                            span.small.order-pieces { (order.pieces) @if order.pieces == 1 { " piece" } @else { " pieces" } }
                            span.order-total { (frame.amount(&order.total)) }
                        }
                    }
                }
            }
        }
    };
    frame.page("Your orders", &content)
}

fn details(frame: &Frame, order: &Order) -> Markup {
    let address = &order.address;
    html! {
        div.order {
            section aria-label="Products" {
                ul.lines {
                    @for line in &order.lines {
                        li.line.line-plain {
                            div {
                                a.line-name href={ "/product/" (line.product_id) } { (line.name) }
                                span.small { (line.quantity) " × " (frame.amount(&line.unit_price)) }
                            }
                            span.line-cost {
                                (line.unit_price.times(line.quantity).map_or_else(|_| String::new(), |cost| frame.amount(&cost)))
                            }
                        }
                    }
                }
                dl.sums {
                    dt { "Shipping" } dd { (frame.amount(&order.shipping_cost)) }
                    dt.total { "Total" } dd.total { (frame.amount(&order.total)) }
                }
            }
            dl.order-facts {
                dt { "Order" } dd { code { (order.id) } }
                dt { "Placed" } dd { (Date::from_seconds(order.placed_at).long()) }
                dt { "Status" } dd { (status(order.status)) }
                @if let Some(tracking) = &order.tracking_id { dt { "Tracking" } dd { code { (tracking) } } }
                @if let Some(receipt) = &order.receipt {
                    dt { "Paid with" } dd { (brand_name(receipt.card.brand)) " ending in " (receipt.card.last_four) }
                    dt { "Transaction" } dd { code { (receipt.transaction_id) } }
                }
                dt { "Sent to" }
                dd {
                    (address.street) br;
                    (address.zip_code) " " (address.city) br;
                    @if let Some(state) = &address.state { (state) br; }
                    (address.country)
                }
            }
        }
    }
}

fn status(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "Being processed",
        OrderStatus::Paid => "Paid, on its way",
        OrderStatus::Cancelled => "Cancelled, nothing was charged",
    }
}
