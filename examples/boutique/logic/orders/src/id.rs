//! IDs of orders.

/// Digits and letters that are easy to distinguish (without I, L, O, U).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Creates an order ID from a random number. The ID has sixty bits, in three groups that are easy to read aloud.
pub fn order_id(random: u64) -> String {
    let mut id = String::with_capacity(14);
    for place in 0..12 {
        if place > 0 && place % 4 == 0 {
            id.push('-');
        }
        id.push(char::from(ALPHABET[(random >> (place * 5) & 31) as usize]));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_groups_of_four() {
        assert_eq!(order_id(0), "0000-0000-0000");
        assert_eq!(order_id(u64::MAX), "ZZZZ-ZZZZ-ZZZZ");
        assert_eq!(order_id(1 | 31 << 5), "1Z00-0000-0000");
    }

    #[test]
    fn each_of_the_sixty_bits_changes_the_id() {
        let ids: std::collections::BTreeSet<String> = (0..60).map(|bit| order_id(1 << bit)).collect();
        assert_eq!(ids.len(), 60);
    }
}
