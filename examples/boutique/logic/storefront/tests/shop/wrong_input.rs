//! Tests of the responses to invalid input.

use crate::support::{Browser, Memory, checkout_form, text};

fn with_a_mug() -> (Memory, Browser) {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=1");
    (shop, browser)
}

#[test]
fn unknown_paths_products_and_orders_have_an_error_page() {
    let (shop, mut browser) = with_a_mug();
    for (path, words) in [
        ("/nothing", "There is nothing here"),
        ("/static/nothing.css", "There is nothing here"),
        ("/product/NOTHING", "no such product"),
        ("/orders/AAAA-BBBB-CCCC", "no such order"),
    ] {
        let response = browser.get(&shop, path);
        assert_eq!(response.status, 404, "{path}");
        assert!(text(&response).contains(words), "{path}");
    }
    let response = browser.post(&shop, "/cart", "product_id=NOTHING&quantity=1");
    assert_eq!(response.status, 404);
}

#[test]
fn an_error_for_another_method_lists_the_allowed_ones() {
    let (shop, mut browser) = with_a_mug();
    for (method, path, allow) in [
        ("DELETE", "/cart", "GET, HEAD, POST, OPTIONS"),
        ("GET", "/cart/checkout", "POST, OPTIONS"),
        ("PUT", "/", "GET, HEAD, OPTIONS"),
    ] {
        let response = browser.send(&shop, method, path, &[], b"");
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    let options = browser.send(&shop, "OPTIONS", "/cart", &[], b"");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
}

#[test]
fn a_wrong_quantity_or_product_is_named() {
    let (shop, mut browser) = with_a_mug();
    for (form, field) in [
        ("product_id=6E92ZMYYFZ&quantity=0", "quantity"),
        ("product_id=6E92ZMYYFZ&quantity=11", "quantity"),
        ("product_id=6E92ZMYYFZ&quantity=many", "quantity"),
        ("product_id=6E92ZMYYFZ", "quantity"),
        ("quantity=1", "product_id"),
        ("", "product_id"),
    ] {
        let response = browser.post(&shop, "/cart", form);
        assert_eq!(response.status, 422, "{form}");
        assert!(text(&response).contains(&format!("<code>{field}</code>")), "{form}");
    }
    assert_eq!(shop.carts.borrow().values().next().map(|items| items[0].quantity), Some(1), "the cart is unchanged");
}

#[test]
fn a_cart_has_a_limit() {
    let (shop, mut browser) = with_a_mug();
    for _ in 0..99 {
        assert_eq!(browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=10").status, 302);
    }
    let response = browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=10");
    assert_eq!(response.status, 422);
    assert!(text(&response).contains("at most 999"));
}

#[test]
fn a_refused_card_leaves_the_cart_and_the_reason_is_shown() {
    let (shop, mut browser) = with_a_mug();
    for (changes, words) in [
        (&[("credit_card_number", "4432801561520455")][..], "not a card number"),
        (&[("credit_card_number", "6011111111111117")][..], "not Discover"),
        (&[("credit_card_expiration_year", "2025")][..], "expired at the end of 01/2025"),
        (&[("credit_card_cvv", "1234")][..], "does not fit the card"),
        (&[("credit_card_number", "378282246310005"), ("credit_card_cvv", "123")][..], "does not fit the card"),
    ] {
        let response = browser.post(&shop, "/cart/checkout", &checkout_form(changes));
        assert_eq!(response.status, 422, "{changes:?}");
        assert!(text(&response).contains(words), "{changes:?}");
        assert!(text(&response).contains("Pebble Mug"), "the cart is kept");
        assert!(text(&response).contains("value=\"1 Road\""), "the other fields keep their values");
        assert!(!text(&response).contains(changes[0].1) || changes[0].1.len() < 5, "a card number is not sent back");
    }
    assert!(shop.orders.borrow().is_empty());
    assert_eq!(browser.post(&shop, "/cart/checkout", &checkout_form(&[])).status, 200, "an accepted card is charged");
}

#[test]
fn every_missing_field_is_reported() {
    let (shop, mut browser) = with_a_mug();
    let response = browser.post(&shop, "/cart/checkout", "state=CA");
    assert_eq!(response.status, 422);
    for field in ["email", "street_address", "zip_code", "city", "country", "credit_card_number", "credit_card_cvv"] {
        assert!(text(&response).contains(&format!("id=\"{field}-error\"")), "{field}");
    }
}

#[test]
fn an_empty_cart_cannot_be_paid_for() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let response = browser.post(&shop, "/cart/checkout", &checkout_form(&[]));
    assert_eq!(response.status, 422);
    assert!(text(&response).contains("cart is empty"));
}

#[test]
fn texts_of_visitors_are_escaped() {
    let (shop, mut browser) = with_a_mug();
    let evil = "\"><script>alert(1)</script>";
    let wrong = browser.post(&shop, "/cart/checkout", &checkout_form(&[("city", evil), ("email", "")]));
    assert!(wrong.status == 422 && !text(&wrong).contains("<script"));
    let placed = browser.post(&shop, "/cart/checkout", &checkout_form(&[("city", evil), ("state", "")]));
    assert!(placed.status == 200 && !text(&placed).contains("<script"));
    assert!(text(&placed).contains("&quot;&gt;&lt;script&gt;"));
}

#[test]
fn large_bodies_and_bodies_that_are_no_form_are_refused() {
    let (shop, mut browser) = with_a_mug();
    let large = format!("product_id=6E92ZMYYFZ&quantity=1&note={}", "x".repeat(boutique_storefront::FORM_BYTES_MAX));
    assert_eq!(browser.post(&shop, "/cart", &large).status, 413);
    let declared = [("content-length", "17000"), ("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(
        browser.send(&shop, "POST", "/cart", &declared, b"").status,
        413,
        "the body is refused before it is read"
    );
    let json = browser.send(&shop, "POST", "/cart", &[("content-type", "application/json")], b"{}");
    assert_eq!(json.status, 415);
    let charset = [("content-type", "Application/X-WWW-Form-Urlencoded; charset=utf-8")];
    assert_eq!(browser.send(&shop, "POST", "/cart", &charset, b"product_id=6E92ZMYYFZ&quantity=1").status, 302);
}

#[test]
fn only_pages_that_need_a_store_fail_if_it_is_down() {
    let (shop, mut browser) = with_a_mug();
    shop.stores_are_down.set(true);
    assert_eq!(browser.get(&shop, "/").status, 200, "the home page needs no store");
    assert_eq!(browser.get(&shop, "/product/6E92ZMYYFZ").status, 200);
    for path in ["/cart", "/orders"] {
        let response = browser.get(&shop, path);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("2")), "{path}");
        assert!(!text(&response).contains("the store is down"), "the reason is only logged");
    }
    let checkout = browser.post(&shop, "/cart/checkout", &checkout_form(&[]));
    assert_eq!(checkout.status, 503);
    assert_eq!(shop.log.borrow().len(), 3);
    assert!(shop.log.borrow().iter().all(|line| line.ends_with("the store is down")));
}
