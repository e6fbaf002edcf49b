//! The functions that are called: cheap, and the same in native programs and in components.

/// A product: a small record with strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The position in the list.
    pub id: u64,
    /// The name.
    pub name: String,
    /// The price in cents.
    pub price_cents: u32,
    /// The search terms.
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

/// Returns the name of the item at this position.
#[must_use]
pub fn key(id: u32) -> &'static str {
    NAMES[id as usize % NAMES.len()]
}

/// Returns the wrapping sum.
#[must_use]
pub fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
}

/// Returns the item with this name.
///
/// # Errors
/// A message, when there is no such item.
pub fn lookup(key: &str) -> Result<Item, String> {
    let id = NAMES.iter().position(|name| *name == key);
    id.map(|id| item(id as u64)).ok_or_else(|| format!("there is no `{key}`"))
}

/// Returns the first `count` items.
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
