//! Determines the brand of a card by its issuer prefix.

use boutique_types::CardBrand;

/// The possible lengths of the card numbers of brands that do not publish these lengths.
const LONG: &[usize] = &[12, 13, 14, 15, 16, 17, 18, 19];

/// Ranges of issuer prefixes. Each entry has the first and the last prefix of the range, which have the same number of
/// digits; the brand; and the possible lengths of the brand's card numbers. The first range that contains a number's
/// prefix applies, so narrow ranges come first.
const RANGES: &[(u32, u32, CardBrand, &[usize])] = &[
    (6011, 6011, CardBrand::Discover, &[16, 17, 18, 19]),
    (2221, 2720, CardBrand::Mastercard, &[16]),
    (3528, 3589, CardBrand::Jcb, &[16, 17, 18, 19]),
    (300, 305, CardBrand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    (644, 659, CardBrand::Discover, &[16, 17, 18, 19]),
    (34, 34, CardBrand::AmericanExpress, &[15]),
    (37, 37, CardBrand::AmericanExpress, &[15]),
    (36, 36, CardBrand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    (38, 39, CardBrand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    (51, 55, CardBrand::Mastercard, &[16]),
    (62, 62, CardBrand::UnionPay, &[16, 17, 18, 19]),
    (50, 50, CardBrand::Maestro, LONG),
    (56, 58, CardBrand::Maestro, LONG),
    (4, 4, CardBrand::Visa, &[13, 16, 19]),
    (6, 6, CardBrand::Maestro, LONG),
];

/// Returns the brand of a card number, and the possible lengths of card numbers of this brand.
pub fn brand(digits: &str) -> (CardBrand, &'static [usize]) {
    RANGES
        .iter()
        .find(|(first, last, ..)| {
            let length = first.to_string().len();
            let prefix = digits.get(..length).and_then(|prefix| prefix.parse::<u32>().ok());
            prefix.is_some_and(|prefix| (*first..=*last).contains(&prefix))
        })
        .map_or((CardBrand::Unknown, LONG), |(_, _, brand, lengths)| (*brand, *lengths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        for (digits, expected) in [
            ("2220", CardBrand::Unknown),
            ("2221", CardBrand::Mastercard),
            ("2720", CardBrand::Mastercard),
            ("2721", CardBrand::Unknown),
            ("3527", CardBrand::Unknown),
            ("3528", CardBrand::Jcb),
            ("3589", CardBrand::Jcb),
            ("5099", CardBrand::Maestro),
            ("5100", CardBrand::Mastercard),
            ("5599", CardBrand::Mastercard),
            ("5600", CardBrand::Maestro),
            ("6011", CardBrand::Discover),
            ("6012", CardBrand::Maestro),
            ("6439", CardBrand::Maestro),
            ("6440", CardBrand::Discover),
            ("6599", CardBrand::Discover),
            ("6600", CardBrand::Maestro),
            ("9", CardBrand::Unknown),
            ("", CardBrand::Unknown),
        ] {
            assert_eq!(brand(digits).0, expected, "{digits}");
        }
    }
}
