//! Decides whether a card is charged: checks its number, brand, expiry date and security code.
//!
//! A brand is recognised by its issuer prefix, and a number is checked by its check digit. ISO/IEC 7812 defines both;
//! the formula of the check digit, the Luhn formula, is in annex B of this standard.

mod brand;

use boutique_types::{Card, CardBrand, CardSummary, Money, Refusal};

pub use brand::brand;

/// The brands of cards that the shop accepts.
const ACCEPTED: [CardBrand; 3] = [CardBrand::Visa, CardBrand::Mastercard, CardBrand::AmericanExpress];

/// Checks whether the card may be charged with the amount, in the given year and month. Returns the part of the card's
/// data that may be stored.
///
/// # Errors
/// If the card is refused; the error is the first reason.
pub fn check(card: &Card, amount: &Money, (year, month): (u64, u64)) -> Result<CardSummary, Refusal> {
    let digits: String = card.number.chars().filter(|character| !matches!(character, ' ' | '-')).collect();
    if !(12..=19).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) || !passes_luhn(&digits)
    {
        return Err(Refusal::InvalidNumber);
    }
    let (brand, lengths) = brand(&digits);
    if !lengths.contains(&digits.len()) {
        return Err(Refusal::InvalidNumber);
    }
    if !ACCEPTED.contains(&brand) {
        return Err(Refusal::UnacceptedBrand(brand));
    }
    if !(1..=12).contains(&card.expiration_month) {
        return Err(Refusal::InvalidExpiration);
    }
    // A card is valid until the end of its last month.
    if (u64::from(card.expiration_year), u64::from(card.expiration_month)) < (year, month) {
        return Err(Refusal::Expired((card.expiration_year, card.expiration_month)));
    }
    let code_digits = if brand == CardBrand::AmericanExpress { 4 } else { 3 };
    let code = &card.verification_code;
    if code.len() != code_digits || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::InvalidVerificationCode);
    }
    if !amount.is_positive() {
        return Err(Refusal::InvalidAmount);
    }
    Ok(CardSummary { brand, last_four: digits[digits.len() - 4..].into() })
}

/// Creates a transaction ID from a random number.
pub fn transaction_id(random: u64) -> String {
    format!("TX-{random:016X}")
}

/// Checks a number by the Luhn formula: counted from the right, the second digit and every second digit after it are
/// doubled. Then all digits are added up; a doubled digit of 10 or more counts as two digits. The sum must be a
/// multiple of ten.
fn passes_luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            match digit << (place % 2) {
                doubled @ 10.. => doubled - 9,
                plain => plain,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(number: &str) -> Card {
        let verification_code = if number.starts_with("34") || number.starts_with("37") { "1234" } else { "123" };
        Card {
            number: number.into(),
            expiration_month: 6,
            expiration_year: 2030,
            verification_code: verification_code.into(),
        }
    }

    fn check_at(card: &Card, today: (u64, u64)) -> Result<CardSummary, Refusal> {
        check(card, &Money::new("USD", 1, 0), today)
    }

    #[test]
    fn cards_of_accepted_brands_are_charged() {
        for (number, brand, last_four) in [
            ("4111 1111 1111 1111", CardBrand::Visa, "1111"),
            ("4222222222222", CardBrand::Visa, "2222"),
            ("5555-5555-5555-4444", CardBrand::Mastercard, "4444"),
            ("2223003122003222", CardBrand::Mastercard, "3222"),
            ("378282246310005", CardBrand::AmericanExpress, "0005"),
        ] {
            assert_eq!(
                check_at(&card(number), (2026, 1)),
                Ok(CardSummary { brand, last_four: last_four.into() }),
                "{number}"
            );
        }
    }

    #[test]
    fn other_brands_are_named() {
        for (number, brand) in [
            ("6011111111111117", CardBrand::Discover),
            ("3530111333300000", CardBrand::Jcb),
            ("30569309025904", CardBrand::DinersClub),
            ("6304000000000000", CardBrand::Maestro),
            ("6200000000000005", CardBrand::UnionPay),
        ] {
            assert_eq!(check_at(&card(number), (2026, 1)), Err(Refusal::UnacceptedBrand(brand)), "{number}");
        }
    }

    #[test]
    fn every_single_wrong_digit_is_detected() {
        let good = "4111111111111111";
        for place in 0..good.len() {
            for digit in '0'..='9' {
                let mut number: Vec<char> = good.chars().collect();
                if number[place] == digit {
                    continue;
                }
                number[place] = digit;
                let number: String = number.into_iter().collect();
                assert_eq!(check_at(&card(&number), (2026, 1)), Err(Refusal::InvalidNumber), "{number}");
            }
        }
    }

    #[test]
    fn invalid_numbers_are_refused() {
        for number in
            ["", "0", "4111", "4111111111111111111111", "411111111111111x", "41111111111111११", "411111111111116"]
        {
            assert_eq!(check_at(&card(number), (2026, 1)), Err(Refusal::InvalidNumber), "{number}");
        }
    }

    #[test]
    fn a_card_is_valid_until_the_end_of_its_month() {
        let card = card("4111111111111111");
        assert!(check_at(&card, (2030, 6)).is_ok());
        assert_eq!(check_at(&card, (2030, 7)), Err(Refusal::Expired((2030, 6))));
        assert_eq!(check_at(&card, (2031, 1)), Err(Refusal::Expired((2030, 6))));
        assert!(check_at(&card, (2029, 12)).is_ok());
    }

    #[test]
    fn months_and_security_codes_are_checked() {
        for month in [0, 13, u8::MAX] {
            let card = Card { expiration_month: month, ..card("4111111111111111") };
            assert_eq!(check_at(&card, (2026, 1)), Err(Refusal::InvalidExpiration));
        }
        for (number, code) in [
            ("4111111111111111", "1234"),
            ("378282246310005", "123"),
            ("4111111111111111", "12a"),
            ("4111111111111111", ""),
        ] {
            let card = Card { verification_code: code.into(), ..card(number) };
            assert_eq!(check_at(&card, (2026, 1)), Err(Refusal::InvalidVerificationCode), "{number} {code}");
        }
    }

    #[test]
    fn only_positive_amounts_are_charged() {
        for (units, nanos) in [(0, 0), (-1, 0), (1, -1)] {
            let amount = Money::new("USD", units, nanos);
            assert_eq!(check(&card("4111111111111111"), &amount, (2026, 1)), Err(Refusal::InvalidAmount));
        }
    }
}
