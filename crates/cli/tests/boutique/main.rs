//! Tests of the example shop: the `isomer` program serves the shop's components, and the tests send HTTP requests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod http;
mod shop;

use http::Session;
use shop::Shop;

const SUNGLASSES: &str = "OLJCESPC7Z";
const GOOD_CARD: &str = "4432801561520454";

fn checkout(card: &str) -> String {
    format!(
        "email=someone%40example.com&street_address=1600+Amphitheatre+Parkway&zip_code=94043&city=Mountain+View&state=CA\
         &country=United+States&credit_card_number={card}&credit_card_expiration_month=1&credit_card_expiration_year=2039\
         &credit_card_cvv=672"
    )
}

#[test]
fn a_person_buys_something_and_it_survives_a_restart() {
    buy_and_restart("monolith", 0);
}

#[test]
fn a_person_buys_the_same_from_two_processes() {
    buy_and_restart("split", 2);
}

#[test]
fn a_person_buys_the_same_from_a_process_for_each_component() {
    buy_and_restart("micro", 11);
}

#[test]
fn a_killed_group_restarts_with_its_stores() {
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::start_in("split", data.path());
    let mut session = Session::new(shop.address());
    assert_eq!(session.post("/cart", &format!("product_id={SUNGLASSES}&quantity=1")).status, 302);
    shop.kill_group("services");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let cart = loop {
        let cart = session.get("/cart");
        match cart.status {
            200 => break cart,
            // Until the killed member has been restarted, the response is an error page of the shop or of the platform.
            status => assert!(status >= 500, "{status}"),
        }
        assert!(std::time::Instant::now() < deadline, "the killed group does not serve again");
    };
    assert!(cart.body.contains(SUNGLASSES), "the cart still contains the product");
    assert_eq!(session.post("/cart/checkout", &checkout(GOOD_CARD)).status, 200);
    assert!(shop.stop().success());
}

fn buy_and_restart(shape: &'static str, processes: usize) {
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::start_in(shape, data.path());
    assert_eq!(shop.members(), processes);
    let mut session = Session::new(shop.address());

    let home = session.get("/");
    assert_eq!(home.status, 200);
    for id in shop::PRODUCTS {
        assert!(home.body.contains(&format!("/product/{id}")), "{id} is on the front page");
    }
    assert_eq!(session.get(&format!("/product/{SUNGLASSES}")).status, 200);
    assert_eq!(session.get("/product/NOSUCHTHING").status, 404);
    let added = session.post("/cart", &format!("product_id={SUNGLASSES}&quantity=3"));
    assert_eq!((added.status, added.header("location")), (302, Some("/cart")));

    let refused = session.post("/cart/checkout", &checkout("4432801561520455"));
    assert_eq!(refused.status, 422, "a card with a wrong check digit");
    assert!(session.get("/cart").body.contains(SUNGLASSES), "a refused card keeps the cart");

    let placed = session.post("/cart/checkout", &checkout(GOOD_CARD));
    assert_eq!(placed.status, 200, "{}", placed.body);
    let order = shop::order_id(&placed.body);
    assert!(session.get("/cart").body.contains("Your cart is empty"), "the cart is empty after the order");
    let again = session.post("/cart", "product_id=66VCHSJNUP&quantity=1");
    assert_eq!(again.status, 302);

    let shop = shop.restart();
    session.connect_to(shop.address());
    let found = session.get(&format!("/orders/{order}"));
    assert_eq!(found.status, 200);
    assert!(found.body.contains(SUNGLASSES));
    assert!(session.get("/cart").body.contains("66VCHSJNUP"), "the cart is still there");
    let stranger = Session::new(shop.address()).get(&format!("/orders/{order}"));
    assert_eq!(stranger.status, 404, "an order is not shown to others");
    assert!(shop.stop().success());
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    buy_and_kill("monolith", 3);
}

#[test]
fn acknowledged_writes_survive_kill_9_of_the_supervisor() {
    buy_and_kill("split", 2);
}

fn buy_and_kill(shape: &'static str, rounds: usize) {
    let data = tempfile::tempdir().unwrap();
    let mut shop = Shop::start_in(shape, data.path());
    let mut session = Session::new(shop.address());
    for round in 1..=rounds {
        session.connect_to(shop.address());
        assert_eq!(session.post("/cart", &format!("product_id={SUNGLASSES}&quantity=1")).status, 302);
        let placed = session.post("/cart/checkout", &checkout(GOOD_CARD));
        assert_eq!(placed.status, 200, "round {round}: {}", placed.body);
        let order = shop::order_id(&placed.body);
        shop = shop.kill_and_start();
        session.connect_to(shop.address());
        assert_eq!(session.get(&format!("/orders/{order}")).status, 200, "round {round}");
    }
}

#[test]
fn invalid_input_is_reported_and_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::start(data.path());
    let mut session = Session::new(shop.address());
    let cases = [
        ("/cart", "product_id=NOSUCHTHING&quantity=1", 404),
        ("/cart", &*format!("product_id={SUNGLASSES}&quantity=0"), 422),
        ("/cart", &*format!("product_id={SUNGLASSES}&quantity=many"), 422),
        ("/cart", "quantity=1", 422),
        ("/setCurrency", "currency_code=XXX", 422),
        ("/cart/checkout", "email=", 422),
    ];
    for (path, form, status) in cases {
        let answer = session.post(path, form);
        assert!((400..500).contains(&answer.status), "{path} {form}: {} instead of {status}", answer.status);
        assert!(answer.body.contains("<h1"), "{path} {form}: the response is not a page");
    }
    assert_eq!(session.get("/cart/checkout").status, 405);
    assert_eq!(session.get("/no/such/page").status, 404);
    assert_eq!(session.get("/_healthz").status, 200);
    let too_large = session.post("/cart", &"x".repeat(100_000));
    assert_eq!(too_large.status, 413);
    let head = session.request("HEAD", "/", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn two_hundred_concurrent_requests_all_succeed() {
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::start(data.path());
    let address = shop.address();
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(200));
    let people = (0..200).map(|number| {
        let barrier = barrier.clone();
        std::thread::spawn(move || {
            let mut session = Session::new(address);
            barrier.wait();
            let path = if number % 2 == 0 { "/".to_owned() } else { format!("/product/{SUNGLASSES}") };
            session.get(&path).status
        })
    });
    let people = people.collect::<Vec<_>>();
    let statuses = people.into_iter().map(|person| person.join().unwrap()).collect::<Vec<_>>();
    assert!(statuses.iter().all(|&status| status == 200), "{statuses:?}");
}

/// Runs `isomer test` with the scripts of the shop.
#[test]
fn the_shops_script_passes_in_every_shape() {
    let app = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/boutique");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_isomer")).arg("test").arg(app).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for shape in ["monolith", "guarded", "isolated", "micro", "split", "tab"] {
        let line = said.lines().find(|line| line.split_whitespace().nth(1) == Some(shape)).unwrap();
        assert!(line.ends_with(" ok"), "{line}");
    }
}
