//! Any number of distinct components from one build. Each is a copy of the guest `numbered` with another number in its
//! code and in its data.
//!
//! A number is replaced by one of the same encoded length, so that no other byte moves. In the code, the number is the
//! operand of an `i32.const` (five bytes of LEB128). In the data, it has eight digits. So the components differ, their
//! compiled code differs, and each component includes its number in its responses.

use anyhow::{Result, ensure};

/// The number that the guest `numbered` has in its code and in its data before it is replaced.
const TEMPLATE: u32 = 12_648_430;
/// The exclusive upper bound of the numbers in the copies of the guest: a number has at most 24 bits, and so at most
/// eight digits.
pub const NUMBER_END: u32 = 1 << 24;

/// The upper eight bits of the constant in the code. They make the encoding of every number five bytes long.
const CODE_BASE: u32 = 0x5a00_0000;
const I32_CONST: u8 = 0x41;
const DATA_WORD: &[u8] = b"isomer-numbered-";

/// The bytes of the guest, and the positions of its numbers.
pub struct Template {
    bytes: Vec<u8>,
    /// The positions of the number in the code, where it is the operand of `i32.const`. There may be several, because
    /// the compiler may repeat the instruction.
    in_code: Vec<usize>,
    /// The position of the number in the data section, where it is written as eight digits.
    in_data: usize,
}

impl Template {
    /// Creates a template from the bytes of the guest `numbered`.
    ///
    /// # Errors
    /// If the guest's number does not occur one to four times in the code and exactly once in the data.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let instruction: Vec<u8> = std::iter::once(I32_CONST).chain(operand(TEMPLATE)).collect();
        let in_code: Vec<usize> = places(&bytes, &instruction).iter().map(|place| place + 1).collect();
        ensure!(
            (1..=4).contains(&in_code.len()),
            "the template's number must occur 1 to 4 times in its code, but occurs {} times",
            in_code.len()
        );
        let in_data = places(&bytes, &[DATA_WORD, &digits(TEMPLATE)].concat());
        let [place] = in_data[..] else {
            anyhow::bail!("the template's number must occur once in its data, but occurs {} times", in_data.len())
        };
        Ok(Self { bytes, in_code, in_data: place + DATA_WORD.len() })
    }

    /// Creates a template from the guest `numbered` of this repository.
    ///
    /// # Errors
    /// The errors of [`Template::new`].
    pub fn load() -> Result<Self> {
        Self::new(isomer_test_guests::bytes("numbered"))
    }

    /// Returns a component with the given number.
    ///
    /// # Panics
    /// If the number is not below [`NUMBER_END`].
    #[must_use]
    pub fn component(&self, number: u32) -> Vec<u8> {
        assert!(number < NUMBER_END, "a number has at most 24 bits");
        let mut bytes = self.bytes.clone();
        for place in &self.in_code {
            bytes[*place..*place + 5].copy_from_slice(&operand(number));
        }
        bytes[self.in_data..self.in_data + 8].copy_from_slice(&digits(number));
        bytes
    }

    /// Returns the size of a component in bytes, which does not depend on the number.
    #[must_use]
    pub fn component_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Returns the response body of the component with the given number, for a request without a nonce.
#[must_use]
pub fn body(number: u32) -> String {
    format!("code={number} data={number}\n")
}

/// Returns the response body of the component with the given number, for a request with the given nonce.
#[must_use]
pub fn body_with(number: u32, nonce: &str) -> String {
    format!("code={number} data={number} nonce={nonce}\n")
}

/// Returns the number of the component that sent `body`. Returns `None` if [`body_with`] returns `body` for no number
/// with this `nonce`, for example because the numbers in the component's code and in its data differ.
#[must_use]
pub fn number_of(body: &[u8], nonce: &str) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?;
    let number = text.strip_prefix("code=")?.split(' ').next()?.parse().ok()?;
    (text == body_with(number, nonce)).then_some(number)
}

/// Encodes `number` as signed LEB128 of 32 bits. `CODE_BASE` makes the result positive and five bytes long.
fn operand(number: u32) -> [u8; 5] {
    let value = CODE_BASE | number;
    std::array::from_fn(|place| {
        let seven = ((value >> (7 * place)) & 0x7f) as u8;
        if place < 4 { seven | 0x80 } else { seven }
    })
}

fn digits(number: u32) -> [u8; 8] {
    let mut rest = number;
    let mut digits = [b'0'; 8];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_results_in_a_distinct_valid_component() {
        let template = Template::load().unwrap();
        assert!(template.component_bytes() >= 90 << 10, "a component of a usual size");
        assert_eq!(template.component(TEMPLATE), template.bytes);
        let mut before = template.bytes.clone();
        for number in [0, 1, 63, 64, 8191, 10_000, NUMBER_END - 1] {
            let component = template.component(number);
            assert_eq!(component.len(), template.component_bytes());
            assert_ne!(component, before);
            let mut validator = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all());
            validator.validate_all(&component).unwrap_or_else(|error| panic!("{number}: {error}"));
            // The operand in the component decodes to the component's number.
            let code = &component[template.in_code[0]..][..5];
            let read = (0..5).fold(0_u32, |read, place| read | (u32::from(code[place] & 0x7f) << (7 * place)));
            assert_eq!(read & 0x00ff_ffff, number);
            before = component;
        }
    }

    #[test]
    fn a_template_without_its_numbers_is_refused() {
        let template = Template::load().unwrap();
        assert!(Template::new(template.component(1)).is_err());
        assert!(Template::new(Vec::new()).is_err());
    }

    #[test]
    fn only_bodies_with_matching_numbers_and_nonce_are_accepted() {
        assert_eq!(number_of(body_with(7, "x").as_bytes(), "x"), Some(7));
        assert_eq!(number_of(body_with(7, "x").as_bytes(), "y"), None);
        assert_eq!(number_of(b"code=7 data=8 nonce=x\n", "x"), None);
        assert_eq!(number_of(b"overloaded", "x"), None);
    }
}
