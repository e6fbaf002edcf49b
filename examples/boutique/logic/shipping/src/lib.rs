//! The cost of shipping, and tracking IDs.

use boutique_types::{Address, CartItem, Money, ShippingError, ShippingQuote};

/// The maximum number of pieces in one parcel. The number of pieces is the sum of the items' quantities.
const PARCEL_PIECES: u64 = 6;
/// The price of the first parcel, in US cents.
const FIRST_CENTS: i64 = 490;
/// The price of each further parcel, in US cents.
const FURTHER_CENTS: i64 = 250;
/// The maximum number of parcels that are shipped quickly. A larger shipment takes longer.
const QUICK_PARCELS: u32 = 3;

/// Returns the cost of shipping the items, in US dollars.
pub fn quote(items: &[CartItem]) -> ShippingQuote {
    let pieces: u64 = items.iter().map(|item| u64::from(item.quantity)).sum();
    let parcels = u32::try_from(pieces.div_ceil(PARCEL_PIECES)).unwrap_or(u32::MAX);
    let cents = match parcels {
        0 => 0,
        parcels => FIRST_CENTS + FURTHER_CENTS * i64::from(parcels - 1),
    };
    let nanos = i32::try_from(cents % 100 * 10_000_000).expect("cents are less than a unit");
    let days = if parcels > QUICK_PARCELS { (4, 8) } else { (2, 4) };
    ShippingQuote { cost: Money::new("USD", cents / 100, nanos), parcels, days }
}

/// Checks whether the items can be shipped to the address.
///
/// # Errors
/// If there are no items, or a part of the address is missing.
pub fn check(address: &Address, items: &[CartItem]) -> Result<(), ShippingError> {
    if items.iter().all(|item| item.quantity == 0) {
        return Err(ShippingError::NothingToShip);
    }
    for (part, text) in [
        ("the street", &address.street),
        ("the city", &address.city),
        ("the postal code", &address.zip_code),
        ("the country", &address.country),
    ] {
        if text.trim().is_empty() {
            return Err(ShippingError::IncompleteAddress(part.into()));
        }
    }
    Ok(())
}

/// Creates a tracking ID from a random number, in the format of the postal standard UPU S10: two letters, eight digits,
/// a check digit, and two letters for the country (`XB`, which no country uses).
pub fn tracking_id(random: u64) -> String {
    let serial = random % 100_000_000;
    let digits: Vec<u64> = (0..8).rev().map(|place| serial / 10_u64.pow(place) % 10).collect();
    let weighted: u64 = digits.iter().zip([8, 6, 4, 2, 3, 5, 9, 7]).map(|(digit, weight)| digit * weight).sum();
    let check = match 11 - weighted % 11 {
        10 => 0,
        11 => 5,
        check => check,
    };
    format!("LB{serial:08}{check}XB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(quantities: &[u32]) -> Vec<CartItem> {
        quantities.iter().map(|quantity| CartItem { product_id: "A".into(), quantity: *quantity }).collect()
    }

    fn address() -> Address {
        Address { street: "a".into(), city: "b".into(), state: None, zip_code: "c".into(), country: "d".into() }
    }

    #[test]
    fn six_pieces_fill_a_parcel() {
        for (quantities, parcels, units, nanos) in [
            (&[][..], 0, 0, 0),
            (&[1], 1, 4, 900_000_000),
            (&[4, 2], 1, 4, 900_000_000),
            (&[4, 3], 2, 7, 400_000_000),
            (&[999], 167, 419, 900_000_000),
        ] {
            let quote = quote(&items(quantities));
            assert_eq!((quote.parcels, quote.cost), (parcels, Money::new("USD", units, nanos)), "{quantities:?}");
        }
    }

    #[test]
    fn large_shipments_take_longer_and_the_parcel_count_is_capped() {
        assert_eq!(quote(&items(&[18])).days, (2, 4));
        assert_eq!(quote(&items(&[19])).days, (4, 8));
        assert!(quote(&items(&[u32::MAX; 100])).cost.is_positive());
    }

    #[test]
    fn an_address_must_be_complete() {
        assert_eq!(check(&address(), &items(&[1])), Ok(()));
        assert_eq!(check(&address(), &items(&[0])), Err(ShippingError::NothingToShip));
        let broken = Address { city: " ".into(), ..address() };
        assert_eq!(check(&broken, &items(&[1])), Err(ShippingError::IncompleteAddress("the city".into())));
    }

    #[test]
    fn tracking_ids_have_the_standard_check_digit() {
        // The example of the standard: serial number 47312482 has the check digit 9.
        assert_eq!(tracking_id(47_312_482), "LB473124829XB");
        assert_eq!(tracking_id(0), "LB000000005XB");
        assert_eq!(tracking_id(u64::MAX).len(), 13);
    }
}
