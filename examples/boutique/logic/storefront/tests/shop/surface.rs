//! Tests of the HTTP interface, request by request.

use crate::support::{Browser, Memory, checkout_form, text};

const IDS: [&str; 9] = [
    "0PUK6V6EV0",
    "1YMWWN1N4O",
    "2ZYFJ3GM2N",
    "66VCHSJNUP",
    "6E92ZMYYFZ",
    "9SIQT8TOJO",
    "L9ECAV7KIM",
    "LS4PSXUNUM",
    "OLJCESPC7Z",
];

#[test]
fn the_home_page_has_all_products() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let response = browser.get(&shop, "/");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    for id in IDS {
        assert!(text(&response).contains(&format!("href=\"/product/{id}\"")), "{id}");
    }
}

#[test]
fn every_asset_that_a_page_names_exists() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    for page in ["/", "/product/6E92ZMYYFZ", "/nothing"] {
        let page = browser.get(&shop, page);
        let addresses: Vec<&str> = text(&page).split(['"']).filter(|part| part.starts_with("/static/")).collect();
        assert!(addresses.len() >= 3, "style sheet, favicon, logo");
        for address in addresses {
            let asset = browser.get(&shop, address);
            assert_eq!(asset.status, 200, "{address}");
            assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"), "{address}");
            assert!(!asset.body.is_empty(), "{address}");
        }
    }
}

#[test]
fn a_cached_asset_is_not_sent_again() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let first = browser.get(&shop, "/static/shop.css");
    assert_eq!(first.header("cache-control"), Some("public, max-age=300"));
    let tag = first.header("etag").expect("it has a tag");
    for tags in [tag.to_owned(), format!("\"other\", W/{tag}"), "*".into()] {
        let again = browser.send(&shop, "GET", "/static/shop.css", &[("if-none-match", &tags)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0), "{tags}");
    }
    let other = browser.send(&shop, "GET", "/static/shop.css", &[("if-none-match", "\"other\"")], b"");
    assert_eq!(other.status, 200);
    assert_eq!(browser.get(&shop, "/static/../shop.css").status, 404);
}

#[test]
fn health_check_robots_and_favicon_are_served() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let health = browser.get(&shop, "/_healthz");
    assert_eq!((health.status, text(&health)), (200, "ok"));
    assert!(health.header("set-cookie").is_none(), "a health check gets no session");
    assert_eq!(browser.get(&shop, "/robots.txt").status, 200);
    assert_eq!(browser.get(&shop, "/favicon.ico").header("content-type"), Some("image/svg+xml"));
}

#[test]
fn the_content_security_policy_allows_what_pages_need_and_no_scripts() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    for path in ["/", "/nothing", "/static/shop.css", "/_healthz", "/static/nothing"] {
        let response = browser.get(&shop, path);
        let policy = response.header("content-security-policy").expect("it has a policy");
        for part in ["default-src 'none'", "style-src 'self'", "img-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("script") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let page = browser.get(&shop, "/");
    assert!(!text(&page).contains("<script") && !text(&page).contains(" style="), "the policy would block them");
}

#[test]
fn a_visitor_buys_and_sees_the_order() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    assert_eq!(browser.get(&shop, "/product/6E92ZMYYFZ").status, 200);
    let added = browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=2");
    assert_eq!((added.status, added.header("location")), (302, Some("/cart")));
    browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=1");
    let cart = browser.get(&shop, "/cart");
    assert!(text(&cart).contains("3 × $16.99"), "equal products are one line");
    assert!(text(&cart).contains("$55.87"), "3 × 16.99 and 4.90 for shipping");

    let placed = browser.post(&shop, "/cart/checkout", &checkout_form(&[]));
    assert_eq!(placed.status, 200);
    let id = shop.orders.borrow()[0].1.id.clone();
    assert!(text(&placed).contains(&id) && text(&placed).contains("ending in 0454"));
    assert!(!text(&placed).contains("4432") && !text(&placed).contains("672"), "a card is never shown");

    assert!(text(&browser.get(&shop, "/cart")).contains("Your cart is empty"));
    assert!(text(&browser.get(&shop, "/orders")).contains(&id));
    let order = browser.get(&shop, &format!("/orders/{id}"));
    assert!(order.status == 200 && text(&order).contains("$55.87"));

    let stranger = Browser::default().get(&shop, &format!("/orders/{id}"));
    assert_eq!(stranger.status, 404, "an order is shown to no other session");
}

#[test]
fn the_session_is_kept_and_cannot_be_forged() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let first = browser.get(&shop, "/");
    let cookie = first.header("set-cookie").expect("a session begins");
    assert!(cookie.starts_with("shop_session-id=") && cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"));
    assert!(browser.get(&shop, "/").header("set-cookie").is_none(), "the session is kept");

    for forged in ["", "short", "../../../../../../../../../../../etc", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let mut browser = Browser::default();
        browser.cookies.insert("shop_session-id".into(), forged.into());
        assert!(browser.get(&shop, "/").header("set-cookie").is_some(), "the shop did not create the session {forged}");
    }
}

#[test]
fn a_currency_is_chosen_and_kept() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let response = browser.post(&shop, "/setCurrency", "currency_code=JPY");
    assert_eq!(
        (response.status, response.header("location")),
        (302, Some("/cart")),
        "the redirect leads back to the referer"
    );
    assert!(text(&browser.get(&shop, "/product/6E92ZMYYFZ")).contains("¥2,556"));

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let response = browser.send(&shop, "POST", "/setCurrency", &form, b"currency_code=EUR");
    assert_eq!(response.header("location"), Some("/"), "without a referer, the redirect leads to the home page");

    let response = browser.post(&shop, "/setCurrency", "currency_code=XXX");
    assert_eq!(response.status, 422);
    assert!(text(&response).contains("currency_code") && text(&response).contains("XXX"));
    assert!(text(&browser.get(&shop, "/product/6E92ZMYYFZ")).contains("€15.66"), "the earlier choice is kept");
}

#[test]
fn orders_are_charged_in_the_chosen_currency() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    browser.post(&shop, "/setCurrency", "currency_code=GBP");
    browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=1");
    let cart = browser.get(&shop, "/cart");
    browser.post(&shop, "/cart/checkout", &checkout_form(&[]));
    let total = shop.orders.borrow()[0].1.total.clone();
    assert_eq!(total.currency_code, "GBP");
    assert!(text(&cart).contains(&total.display("£", 2)), "the charged total is the total that the cart has shown");
    browser.post(&shop, "/setCurrency", "currency_code=USD");
    assert!(text(&browser.get(&shop, "/orders")).contains(&total.display("£", 2)), "an order keeps its currency");
}

#[test]
fn leaving_forgets_the_visitor() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    browser.post(&shop, "/setCurrency", "currency_code=EUR");
    assert_eq!(browser.cookies.len(), 2);
    let response = browser.get(&shop, "/logout");
    assert_eq!((response.status, response.header("location")), (302, Some("/")));
    assert!(browser.cookies.is_empty());
}

#[test]
fn the_cart_is_emptied() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=1");
    let response = browser.send(&shop, "POST", "/cart/empty", &[], b"");
    assert_eq!((response.status, response.header("location")), (302, Some("/")));
    assert!(text(&browser.get(&shop, "/cart")).contains("Your cart is empty"));
}

#[test]
fn search_finds_and_says_when_it_does_not() {
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let found = browser.get(&shop, "/search?q=Pebble+mug");
    assert!(text(&found).contains("1 thing for “Pebble mug”"));
    let none = browser.get(&shop, "/search?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E");
    assert_eq!(none.status, 200);
    assert!(text(&none).contains("&lt;script&gt;alert(1)") && !text(&none).contains("<script"));
    assert_eq!(browser.get(&shop, "/search").status, 200);
}
