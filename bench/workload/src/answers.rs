//! The callee's functions. They are cheap, and native programs and components share them.

/// A small record with strings, which the callee's functions return: a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The product's position in the list of products.
    pub id: u64,
    /// The product's name.
    pub name: String,
    /// The price in cents.
    pub price_cents: u32,
    /// Search terms for the product.
    pub tags: Vec<String>,
}

const NAMES: [&str; 8] = [
    "Vintage typewriter",
    "Terrarium",
    "Film camera",
    "Metal camping mug",
    "City bike",
    "Barista kit",
    "Record player",
    "Home barista's little helper",
];
const TAGS: [&str; 4] = ["vintage", "kitchen", "photography", "cycling"];

/// Returns the product name at a position. After the last name, the names repeat.
#[must_use]
pub fn key(id: u32) -> &'static str {
    NAMES[id as usize % NAMES.len()]
}

/// Returns the sum of two numbers, wrapping on overflow.
#[must_use]
pub fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
}

/// Returns the item with the name `key`.
///
/// # Errors
/// If there is no such item; the error is a message for people.
pub fn lookup(key: &str) -> Result<Item, String> {
    let id = NAMES.iter().position(|name| *name == key);
    id.map(|id| item(id as u64)).ok_or_else(|| format!("there is no `{key}`"))
}

/// Returns the first `count` items. After the last product name, the names repeat.
pub fn all(count: u32) -> impl Iterator<Item = Item> {
    (0..u64::from(count)).map(item)
}

fn item(id: u64) -> Item {
    let at = id as usize;
    let tags = [TAGS[at % TAGS.len()], TAGS[(at + 1) % TAGS.len()]];
    Item {
        id,
        name: NAMES[at % NAMES.len()].to_owned(),
        price_cents: 1_000 + (id as u32 % 97) * 50,
        tags: tags.map(str::to_owned).to_vec(),
    }
}
