//! Writes the shop's pages and assets into a folder, so that a browser can show them without a running shop: `cargo run
//! -p boutique-storefront --example pages -- FOLDER`.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use support::{Browser, Memory, checkout_form};

#[expect(dead_code, reason = "only the tests use all of this module")]
#[path = "../tests/shop/support.rs"]
mod support;

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| io::Error::other("name the folder to write into"))?;
    let (shop, mut browser) = (Memory::default(), Browser::default());
    let mut pages = vec![
        ("home", browser.get(&shop, "/")),
        ("product", browser.get(&shop, "/product/2ZYFJ3GM2N")),
        ("search", browser.get(&shop, "/search?q=kitchen")),
        ("search-none", browser.get(&shop, "/search?q=anchor")),
        ("cart-empty", browser.get(&shop, "/cart")),
        ("orders-none", browser.get(&shop, "/orders")),
        ("unknown", browser.get(&shop, "/nothing")),
        ("wrong-field", browser.post(&shop, "/cart", "product_id=6E92ZMYYFZ&quantity=0")),
    ];
    for item in ["2ZYFJ3GM2N&quantity=1", "6E92ZMYYFZ&quantity=3", "0PUK6V6EV0&quantity=1"] {
        browser.post(&shop, "/cart", &format!("product_id={item}"));
    }
    pages.push(("cart", browser.get(&shop, "/cart")));
    let refused = checkout_form(&[("credit_card_number", "4432801561520455"), ("email", "a@example.com")]);
    pages.push(("refused", browser.post(&shop, "/cart/checkout", &refused)));
    pages.push(("placed", browser.post(&shop, "/cart/checkout", &checkout_form(&[]))));
    pages.push(("orders", browser.get(&shop, "/orders")));
    let id = shop.orders.borrow()[0].1.id.clone();
    pages.push(("order", browser.get(&shop, &format!("/orders/{id}"))));

    let mut assets = BTreeSet::new();
    for (name, page) in &pages {
        write(Path::new(&folder).join(format!("{name}.html")), &page.body)?;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assets.extend(text.split('"').filter(|part| part.starts_with("/static/")).map(str::to_owned));
    }
    for asset in assets {
        let path = asset.split('?').next().unwrap_or(&asset).trim_start_matches('/');
        write(Path::new(&folder).join(path), &browser.get(&shop, &asset).body)?;
    }
    Ok(())
}

fn write(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.as_ref().parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes)
}
