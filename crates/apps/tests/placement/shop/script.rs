//! The requests of the shop's visitors: several hundred requests, each with the expected status of its response. The
//! same seed results in the same requests.
//!
//! Some visitors act at random. Others do unusual things: they send forms with every kind of mistake, use cards of
//! every kind, request pages that do not exist, use methods that are not allowed, and send bodies that are too large.

use crate::random::Random;

/// The IDs of the shop's products.
const PRODUCTS: [&str; 9] = [
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

const CURRENCIES: [&str; 5] = ["EUR", "USD", "JPY", "GBP", "CAD"];

/// Cards that are charged, each as number and security code.
const GOOD_CARDS: [(&str, &str); 4] = [
    ("4111 1111 1111 1111", "123"),
    ("5555-5555-5555-4444", "456"),
    ("378282246310005", "1234"),
    ("4432801561520454", "672"),
];

/// Cards with valid numbers that are refused, each as number, security code, and month and year of expiry.
const REFUSED_CARDS: [(&str, &str, &str, &str); 5] = [
    ("4432801561520455", "672", "1", "2090"),
    ("6011 1111 1111 1117", "123", "1", "2090"),
    ("30569309025904", "123", "1", "2090"),
    ("4111111111111111", "123", "6", "2001"),
    ("4111111111111111", "1234", "1", "2090"),
];

/// The number of visitors that act at random.
const WALKERS: usize = 9;
const STEPS_OF_WALKER: usize = 34;

/// A request of a visitor, and the expected status of the response.
#[derive(Debug, Clone)]
pub(crate) struct PlannedRequest {
    /// The number of the visitor, whose cookies are sent with the request.
    pub(crate) visitor: usize,
    pub(crate) method: &'static str,
    /// The path and query. `{order}` is replaced with the number of the visitor's last order, and `{stranger}` with the
    /// number of another visitor's order.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The expected status of the response.
    pub(crate) status: u16,
    /// Whether the request places an order.
    pub(crate) places_order: bool,
}

impl PlannedRequest {
    fn new(method: &'static str, target: impl Into<String>, status: u16) -> Self {
        Self { visitor: 0, method, target: target.into(), headers: vec![], body: vec![], status, places_order: false }
    }

    fn get(target: impl Into<String>, status: u16) -> Self {
        Self::new("GET", target, status)
    }

    fn post(target: impl Into<String>, form: impl Into<String>, status: u16) -> Self {
        let step = Self::new("POST", target, status).with("content-type", "application/x-www-form-urlencoded");
        Self { body: form.into().into_bytes(), ..step }
    }

    fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    fn by(self, visitor: usize) -> Self {
        Self { visitor, ..self }
    }
}

/// Returns the requests of all visitors, interleaved.
pub(crate) fn steps(seed: u64) -> Vec<PlannedRequest> {
    let mut random = Random::new(seed, 0x5409);
    let mut visitors: Vec<Vec<PlannedRequest>> = (0..WALKERS).map(|_| walker(&mut random)).collect();
    visitors.extend([clumsy(), careless(), tester(), stranger()]);
    let mut visitors: Vec<_> = visitors.into_iter().map(Vec::into_iter).collect();
    let mut steps = vec![];
    loop {
        // A visitor with more remaining requests is chosen more often, so that all visitors finish at about the same
        // time.
        let left: usize = visitors.iter().map(ExactSizeIterator::len).sum();
        if left == 0 {
            break;
        }
        let mut place = random.below(left);
        for (number, visitor) in visitors.iter_mut().enumerate() {
            if place < visitor.len() {
                steps.extend(visitor.next().map(|step| step.by(number)));
                break;
            }
            place -= visitor.len();
        }
    }
    steps
}

/// Encodes the fields of the checkout form as `application/x-www-form-urlencoded`.
fn checkout(email: &str, street: &str, (number, code, month, year): (&str, &str, &str, &str)) -> String {
    let plain = |text: &str| text.replace('+', "%2B").replace('&', "%26").replace('@', "%40").replace(' ', "+");
    format!(
        "email={}&street_address={}&zip_code=94043&city=Mountain+View&state=CA&country=United+States\
         &credit_card_number={}&credit_card_expiration_month={month}&credit_card_expiration_year={year}\
         &credit_card_cvv={code}",
        plain(email),
        plain(street),
        plain(number),
    )
}

fn good_checkout(card: usize) -> String {
    let (number, code) = GOOD_CARDS[card % GOOD_CARDS.len()];
    checkout("someone@example.com", "12 Harbour Lane", (number, code, "1", "2090"))
}

/// Returns the requests of a visitor that browses at random, sometimes buys, and is sometimes refused.
fn walker(random: &mut Random) -> Vec<PlannedRequest> {
    let mut steps = vec![PlannedRequest::get("/", 200)];
    let mut pieces = 0;
    while steps.len() < STEPS_OF_WALKER {
        let product = *random.pick(&PRODUCTS);
        match random.below(20) {
            0 => steps.push(PlannedRequest::get("/", 200)),
            1..=3 => steps.push(PlannedRequest::get(format!("/product/{product}"), 200)),
            4 => {
                let terms =
                    random.pick(&["clock", "kettle+slim", "wear", "a", "", "nothing+such", "%E2%98%83", "LEGS"]);
                steps.push(PlannedRequest::get(format!("/search?q={terms}"), 200));
            }
            5 | 6 => steps.push(PlannedRequest::get("/cart", 200)),
            7..=11 => {
                let quantity = random.between(1, 10);
                pieces += 1;
                steps.push(PlannedRequest::post("/cart", format!("product_id={product}&quantity={quantity}"), 302));
            }
            12 | 13 => {
                let currency = random.pick(&CURRENCIES);
                let step = PlannedRequest::post("/setCurrency", format!("currency_code={currency}"), 302);
                steps.push(step.with("referer", format!("http://shop.example/product/{product}")));
            }
            14 => {
                pieces = 0;
                steps.push(PlannedRequest::post("/cart/empty", "", 302));
            }
            15 => {
                let card = *random.pick(&REFUSED_CARDS);
                steps.push(PlannedRequest::post("/cart/checkout", checkout("a@example.com", "1 Road", card), 422));
            }
            16..=18 => {
                let mut step = PlannedRequest::post("/cart/checkout", good_checkout(random.below(4)), 422);
                if pieces > 0 {
                    (step.status, step.places_order) = (200, true);
                }
                steps.push(step);
                if std::mem::take(&mut pieces) > 0 {
                    steps.push(PlannedRequest::get("/orders/{order}", 200));
                }
            }
            _ => steps.push(PlannedRequest::get("/orders", 200)),
        }
    }
    steps.push(PlannedRequest::get("/orders", 200));
    steps
}

/// Returns the requests of a visitor that makes every mistake that a form allows, and then places an order.
fn clumsy() -> Vec<PlannedRequest> {
    let mut steps = vec![
        PlannedRequest::get("/cart", 200),
        PlannedRequest::post("/cart/checkout", good_checkout(0), 422),
        PlannedRequest::post("/cart", "product_id=NOSUCHTHING&quantity=1", 404),
        PlannedRequest::post("/cart", "product_id=6E92ZMYYFZ&quantity=10", 302),
    ];
    for quantity in ["0", "11", "-1", "many", "", "1.5", "4294967296", "%00"] {
        steps.push(PlannedRequest::post("/cart", format!("product_id=6E92ZMYYFZ&quantity={quantity}"), 422));
    }
    for form in ["quantity=1", "product_id=", "&&&", "=", "product_id=%FF%FE&quantity=3", "quantity=%E0%A4"] {
        let status = if form.starts_with("product_id=%") { 404 } else { 422 };
        steps.push(PlannedRequest::post("/cart", form, status));
    }
    for code in ["XXX", "", "eur", "%F0%9F%92%B6"] {
        steps.push(PlannedRequest::post("/setCurrency", format!("currency_code={code}"), 422));
    }
    for card in REFUSED_CARDS {
        steps.push(PlannedRequest::post("/cart/checkout", checkout("b@example.com", "2 Road", card), 422));
        steps.push(PlannedRequest::get("/cart", 200));
    }
    let good = ("4111111111111111", "123", "12", "2090");
    for (email, street) in [
        ("", "1 Road"),
        ("no-address", "1 Road"),
        ("a@b..c", "1 Road"),
        ("a@example.com", ""),
        ("a@example.com", "%07"),
    ] {
        steps.push(PlannedRequest::post("/cart/checkout", checkout(email, street, good), 422));
    }
    for card in [
        ("4111", "123", "1", "2090"),
        ("4111111111111111", "12", "1", "2090"),
        ("4111111111111111", "123", "13", "2090"),
        ("4111111111111111", "123", "1", "90"),
    ] {
        steps.push(PlannedRequest::post("/cart/checkout", checkout("a@example.com", "1 Road", card), 422));
    }
    let long = "x".repeat(300);
    steps.push(PlannedRequest::post("/cart/checkout", checkout("a@example.com", &long, good), 422));
    steps.push(PlannedRequest::post("/setCurrency", "currency_code=JPY", 302));
    let street = "Straße 1 & Söhne, 東京 <b>";
    let placed = PlannedRequest {
        places_order: true,
        ..PlannedRequest::post("/cart/checkout", checkout("ü@example.com", street, good), 200)
    };
    steps.extend([
        placed,
        PlannedRequest::get("/orders/{order}", 200),
        PlannedRequest::get("/cart", 200),
        PlannedRequest::get("/orders", 200),
    ]);
    steps
}

/// Returns the requests of a visitor whose browser loses cookies and sends invalid cookies.
fn careless() -> Vec<PlannedRequest> {
    let bad = [
        "shop_session-id=short",
        "shop_session-id=",
        "shop_currency=XXX",
        "nonsense",
        "shop_session-id=ABCDEF0123456789ABCDEF0123456789",
    ];
    let mut steps: Vec<_> = bad.iter().map(|cookie| PlannedRequest::get("/", 200).with("cookie", *cookie)).collect();
    steps.extend([
        PlannedRequest::get("/logout", 302),
        PlannedRequest::get("/orders", 200),
        PlannedRequest::post("/cart", "product_id=66VCHSJNUP&quantity=2", 302),
        PlannedRequest::get("/logout", 302),
        PlannedRequest::get("/cart", 200),
        PlannedRequest { places_order: false, ..PlannedRequest::post("/cart/checkout", good_checkout(1), 422) },
        PlannedRequest::get("/orders/{order}", 404),
        PlannedRequest::post("/cart", "product_id=66VCHSJNUP&quantity=2", 302),
        PlannedRequest { places_order: true, ..PlannedRequest::post("/cart/checkout", good_checkout(1), 200) },
        PlannedRequest::get("/orders/{order}", 200),
        PlannedRequest::get("/orders/0000-0000-0000", 404),
        PlannedRequest::get("/orders/%27%20OR%201=1", 404),
    ]);
    // The maximum quantity of one product in a cart is 999. The visitor tries to add more.
    steps.extend((0..99).map(|_| PlannedRequest::post("/cart", "product_id=1YMWWN1N4O&quantity=10", 302)));
    steps.push(PlannedRequest::post("/cart", "product_id=1YMWWN1N4O&quantity=9", 302));
    steps.push(PlannedRequest::post("/cart", "product_id=1YMWWN1N4O&quantity=1", 422));
    steps.push(PlannedRequest { places_order: true, ..PlannedRequest::post("/cart/checkout", good_checkout(2), 200) });
    steps.push(PlannedRequest::get("/orders/{order}", 200));
    steps
}

/// Returns the requests of a visitor that uses unusual features of HTTP.
fn tester() -> Vec<PlannedRequest> {
    let mut steps = vec![];
    for target in [
        "/nothing",
        "/product/",
        "/product/NOSUCHTHING",
        "/product/a/b",
        "/cart/",
        "/Cart",
        "/static/no.css",
        "/%2e%2e/x",
        "//",
        "/orders/a/b",
    ] {
        steps.push(PlannedRequest::get(target, 404));
    }
    for (method, target) in [
        ("DELETE", "/cart"),
        ("PUT", "/"),
        ("PATCH", "/orders"),
        ("GET", "/cart/checkout"),
        ("GET", "/setCurrency"),
        ("POST", "/"),
        ("POST", "/orders"),
        ("get", "/"),
        ("TRACE", "/"),
    ] {
        steps.push(PlannedRequest::new(method, target, 405));
    }
    for target in ["/", "/cart", "/cart/checkout"] {
        steps.push(PlannedRequest::new("OPTIONS", target, 204));
    }
    for target in ["/", "/cart", "/product/OLJCESPC7Z", "/_healthz", "/favicon.ico"] {
        steps.push(PlannedRequest::new("HEAD", target, 200));
    }
    for target in ["/_healthz", "/robots.txt", "/favicon.ico", "/?a=b#c", "/search", "/search?q=a&q=b", "/search?x=1"] {
        steps.push(PlannedRequest::get(target, 200));
    }
    let form = PlannedRequest::post("/cart", "product_id=66VCHSJNUP&quantity=1", 415);
    for content_type in ["application/json", "text/plain", "multipart/form-data; boundary=x"] {
        let headers = vec![("content-type", content_type.to_owned())];
        steps.push(PlannedRequest { headers, ..form.clone() });
    }
    // These sizes exceed the shop's limit for a form; the larger ones also exceed the manifest's limit for a body.
    for bytes in [16 * 1024 + 1, 20_000, 65_537, 200_000] {
        steps.push(PlannedRequest::post("/cart", "x".repeat(bytes), 413));
    }
    steps.push(PlannedRequest::post("/cart", "x".repeat(16 * 1024), 422));
    let query = "q=".to_owned() + &"term+".repeat(200);
    steps.push(PlannedRequest::get(format!("/search?{query}"), 200));
    steps
}

/// Returns the requests of a visitor that tries to see the orders of other visitors.
fn stranger() -> Vec<PlannedRequest> {
    let mut steps = vec![PlannedRequest::get("/", 200)];
    steps.extend((0..8).map(|_| PlannedRequest::get("/orders/{stranger}", 404)));
    steps.push(PlannedRequest::get("/orders", 200));
    steps
}
