//! The contents of a cart, its limits, and its stored form.

use boutique_types::{CartError, CartItem};

/// The maximum quantity of one product in a cart.
pub const QUANTITY_MAX: u32 = 999;
/// The maximum number of different products in a cart.
pub const PRODUCTS_MAX: usize = 100;
/// The maximum length of a product ID, in bytes.
const ID_BYTES_MAX: usize = 32;
/// The first line of a stored cart, which names the format of the following lines.
const FORM: &str = "cart 1";

/// Adds an item to a cart. If the cart already contains the product, its quantity is increased.
///
/// # Errors
/// [`CartError::InvalidItem`] if the product ID is invalid or the quantity is 0. [`CartError::TooMany`] if the cart
/// would exceed a limit.
pub fn add(items: &mut Vec<CartItem>, item: CartItem) -> Result<(), CartError> {
    if !is_id(&item.product_id) || item.quantity == 0 {
        return Err(CartError::InvalidItem);
    }
    if let Some(there) = items.iter_mut().find(|there| there.product_id == item.product_id) {
        let quantity = there.quantity.saturating_add(item.quantity);
        if quantity > QUANTITY_MAX {
            return Err(CartError::TooMany(QUANTITY_MAX));
        }
        there.quantity = quantity;
        return Ok(());
    }
    if item.quantity > QUANTITY_MAX || items.len() == PRODUCTS_MAX {
        return Err(CartError::TooMany(QUANTITY_MAX));
    }
    items.push(item);
    Ok(())
}

/// Encodes a cart for storage: a first line that names the format, then one line for each product.
pub fn encode(items: &[CartItem]) -> Vec<u8> {
    let mut text = format!("{FORM}\n");
    for item in items {
        text.push_str(&format!("{} {}\n", item.product_id, item.quantity));
    }
    text.into_bytes()
}

/// Decodes a stored cart.
///
/// # Errors
/// [`CartError::Unavailable`] if the bytes are not an encoded cart.
pub fn decode(bytes: &[u8]) -> Result<Vec<CartItem>, CartError> {
    read(bytes).ok_or_else(|| CartError::Unavailable("the stored cart cannot be read".into()))
}

fn read(bytes: &[u8]) -> Option<Vec<CartItem>> {
    let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
    if lines.next() != Some(FORM) {
        return None;
    }
    lines
        .map(|line| {
            let (id, quantity) = line.split_once(' ')?;
            let quantity = quantity.parse().ok()?;
            (is_id(id) && (1..=QUANTITY_MAX).contains(&quantity)).then(|| CartItem { product_id: id.into(), quantity })
        })
        .collect()
}

fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, quantity: u32) -> CartItem {
        CartItem { product_id: id.into(), quantity }
    }

    #[test]
    fn quantities_of_the_same_product_are_added() {
        let mut items = Vec::new();
        for (id, quantity) in [("A", 1), ("B", 2), ("A", 3)] {
            add(&mut items, item(id, quantity)).expect("it fits");
        }
        assert_eq!(items, [item("A", 4), item("B", 2)]);
    }

    #[test]
    fn an_item_over_a_limit_leaves_the_cart_unchanged() {
        let mut items = vec![item("A", QUANTITY_MAX - 1)];
        assert_eq!(add(&mut items, item("A", 2)), Err(CartError::TooMany(QUANTITY_MAX)));
        assert_eq!(add(&mut items, item("A", u32::MAX)), Err(CartError::TooMany(QUANTITY_MAX)));
        assert_eq!(add(&mut items, item("B", QUANTITY_MAX + 1)), Err(CartError::TooMany(QUANTITY_MAX)));
        assert_eq!(items, [item("A", QUANTITY_MAX - 1)]);
        assert_eq!(add(&mut items, item("A", 1)), Ok(()));

        let mut items: Vec<CartItem> = (0..PRODUCTS_MAX).map(|number| item(&format!("P{number}"), 1)).collect();
        assert_eq!(add(&mut items, item("ONE-MORE", 1)), Err(CartError::TooMany(QUANTITY_MAX)));
        assert_eq!(add(&mut items, item("P0", 1)), Ok(()), "more pieces of a product in the cart still fit");
    }

    #[test]
    fn invalid_items_are_refused() {
        for bad in [item("", 1), item("A", 0), item("A B", 1), item("A\n", 1), item(&"A".repeat(33), 1), item("ä", 1)]
        {
            assert_eq!(add(&mut Vec::new(), bad.clone()), Err(CartError::InvalidItem), "{bad:?}");
        }
    }

    #[test]
    fn a_stored_cart_can_be_decoded() {
        for items in [vec![], vec![item("6E92ZMYYFZ", 1)], vec![item("A", QUANTITY_MAX), item("B-2", 7)]] {
            assert_eq!(decode(&encode(&items)), Ok(items));
        }
    }

    #[test]
    fn damaged_carts_are_errors() {
        for bad in [
            "",
            "cart 1",
            "cart 2\n",
            "cart 1\nA\n",
            "cart 1\nA 0\n",
            "cart 1\nA 1000\n",
            "cart 1\nA -1\n",
            "cart 1\n A 1\n",
            "cart 1\nA 1",
        ] {
            assert!(matches!(decode(bad.as_bytes()), Err(CartError::Unavailable(_))), "{bad:?}");
        }
        assert!(decode(&[0xff, 0xfe, b'\n']).is_err());
    }
}
