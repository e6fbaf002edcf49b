//! Parses the shop's forms and checks their fields.

use std::borrow::Cow;

use boutique_types::{Address, Card, CartItem, CheckoutRequest};

use crate::failure::{Failure, FieldError};
use crate::http::{BodyError, Head};
use crate::shop::FORM_BYTES_MAX;

/// The maximum quantity of a product that one request can add to the cart.
pub(crate) const QUANTITY_MAX: u32 = 10;

/// The fields of a submitted form, as names and values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form(Vec<(String, String)>);

/// Parses the body of a request as a form.
pub(crate) async fn read(
    head: &Head,
    read_body: impl AsyncFnOnce(usize) -> Result<Vec<u8>, BodyError>,
) -> Result<Form, Failure> {
    let declared = head.header("content-length").and_then(|length| length.trim().parse::<u64>().ok());
    if declared.is_some_and(|length| length > FORM_BYTES_MAX as u64) {
        return Err(Failure::FormTooLarge);
    }
    let body = read_body(FORM_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge => Failure::FormTooLarge,
        BodyError::Broken => Failure::BrokenBody,
    })?;
    let content_type = head.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !body.is_empty() && !content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Failure::NotAForm);
    }
    Ok(Form::parse(&body))
}

impl Form {
    pub(crate) fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Returns the value of the first field `name`, without surrounding spaces. Returns an empty string if there is no
    /// such field.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.trim())
    }

    /// Returns the value of the field `name`.
    ///
    /// # Errors
    /// If the form has no such field, or its value is empty.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, Failure> {
        match self.value(name) {
            "" => Err(Failure::field(name, "This is missing.")),
            value => Ok(value),
        }
    }

    /// Parses the form of `POST /cart`.
    pub(crate) fn cart_item(&self) -> Result<CartItem, Failure> {
        let mut errors = Vec::new();
        let product_id = self.value("product_id");
        if product_id.is_empty() {
            errors.push(FieldError::new("product_id", "Say which product."));
        }
        let quantity = self.value("quantity").parse().unwrap_or(0);
        if !(1..=QUANTITY_MAX).contains(&quantity) {
            errors.push(FieldError::new("quantity", format!("Choose a number from 1 to {QUANTITY_MAX}.")));
        }
        if errors.is_empty() {
            Ok(CartItem { product_id: product_id.into(), quantity })
        } else {
            Err(Failure::Fields(errors))
        }
    }

    /// Parses the form of `POST /cart/checkout`. The payment service, and not this function, decides whether the card
    /// is accepted.
    pub(crate) fn checkout_request(&self, currency_code: &str) -> Result<CheckoutRequest, Vec<FieldError>> {
        let mut check = Check { form: self, errors: Vec::new() };
        let request = CheckoutRequest {
            currency_code: currency_code.into(),
            email: check.email("email"),
            address: Address {
                street: check.text("street_address", 200),
                city: check.text("city", 100),
                state: Some(check.optional_text("state", 100)).filter(|state| !state.is_empty()),
                zip_code: check.zip_code("zip_code"),
                country: check.text("country", 100),
            },
            card: Card {
                number: check.card_number("credit_card_number"),
                expiration_month: check.number("credit_card_expiration_month", 1, 12),
                expiration_year: check.number("credit_card_expiration_year", 2000, 2199),
                verification_code: check.verification_code("credit_card_cvv"),
            },
        };
        if check.errors.is_empty() { Ok(request) } else { Err(check.errors) }
    }
}

/// Parses the fields of a form and collects their errors.
struct Check<'a> {
    form: &'a Form,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    fn wrong(&mut self, field: &'static str, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, message));
    }

    fn text(&mut self, field: &'static str, characters_max: usize) -> String {
        let text = self.optional_text(field, characters_max);
        if text.is_empty() && !self.errors.iter().any(|error| error.field == field) {
            self.wrong(field, "This is missing.");
        }
        text
    }

    fn optional_text(&mut self, field: &'static str, characters_max: usize) -> String {
        let text = self.form.value(field);
        if text.chars().count() > characters_max {
            self.wrong(field, format!("This is too long: at most {characters_max} characters."));
        } else if text.chars().any(char::is_control) {
            self.wrong(field, "This has characters that cannot be printed on a parcel.");
        }
        text.into()
    }

    fn email(&mut self, field: &'static str) -> String {
        let email = self.text(field, 254);
        let well_formed = email.split_once('@').is_some_and(|(local, domain)| {
            let labels: Vec<&str> = domain.split('.').collect();
            !local.is_empty()
                && labels.len() > 1
                && labels.iter().all(|label| !label.is_empty())
                && !domain.contains('@')
        });
        let has_space = email.contains(|character: char| character.is_whitespace() || "<>,;\"".contains(character));
        if !email.is_empty() && (!well_formed || has_space) {
            self.wrong(field, "This is not a mail address, such as someone@example.com.");
        }
        email
    }

    fn zip_code(&mut self, field: &'static str) -> String {
        let code = self.text(field, 12);
        if code.contains(|character: char| !(character.is_alphanumeric() || " -".contains(character))) {
            self.wrong(field, "A postal code has letters, digits, spaces and dashes.");
        }
        code
    }

    fn card_number(&mut self, field: &'static str) -> String {
        let number = self.text(field, 40);
        let digits: String = number.chars().filter(|character| !matches!(character, ' ' | '-')).collect();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && (12..=19).contains(&digits.len());
        if !is_number && !digits.is_empty() {
            self.wrong(field, "A card number has 12 to 19 digits.");
        }
        digits
    }

    fn verification_code(&mut self, field: &'static str) -> String {
        let code = self.form.value(field);
        if !(matches!(code.len(), 3 | 4) && code.bytes().all(|byte| byte.is_ascii_digit())) {
            self.wrong(field, "The security code has 3 digits, or 4 on American Express.");
        }
        code.into()
    }

    fn number<T: TryFrom<u16> + Default>(&mut self, field: &'static str, first: u16, last: u16) -> T {
        match self.form.value(field).parse::<u16>() {
            Ok(number) if (first..=last).contains(&number) => T::try_from(number).unwrap_or_default(),
            _ => {
                self.wrong(field, format!("Choose a number from {first} to {last}."));
                T::default()
            }
        }
    }
}

/// The contents of the fields of the checkout form: sample values, or the values that the visitor has submitted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Filled<'a> {
    Sample,
    Form(&'a Form),
}

impl<'a> Filled<'a> {
    /// Returns the value to show in a field. The card number and the security code are never sent back.
    pub(crate) fn value(self, field: &str) -> Cow<'a, str> {
        match self {
            Self::Form(_) if matches!(field, "credit_card_number" | "credit_card_cvv") => "".into(),
            Self::Form(form) => form.value(field).into(),
            Self::Sample => match field {
                "email" => "someone@example.com",
                "street_address" => "12 Harbour Lane",
                "zip_code" => "94043",
                "city" => "Mountain View",
                "state" => "CA",
                "country" => "United States",
                "credit_card_number" => "4111 1111 1111 1111",
                "credit_card_expiration_month" => "1",
                "credit_card_cvv" => "123",
                _ => "",
            }
            .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "email=a%40example.com&street_address=1+Road&zip_code=94043&city=Town&state=CA&country=Land\
        &credit_card_number=4111-1111+1111%201111&credit_card_expiration_month=1&credit_card_expiration_year=2090\
        &credit_card_cvv=123";

    fn with(field: &str, value: &str) -> Form {
        let mut form = Form::parse(GOOD.as_bytes());
        form.0.retain(|(name, _)| name != field);
        form.0.push((field.into(), value.into()));
        form
    }

    fn wrong_fields(form: &Form) -> Vec<&'static str> {
        form.checkout_request("USD").err().unwrap_or_default().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_valid_form_becomes_a_request() {
        let request = Form::parse(GOOD.as_bytes()).checkout_request("EUR").expect("the form is valid");
        assert_eq!(request.card.number, "4111111111111111");
        assert_eq!(request.address.state.as_deref(), Some("CA"));
        assert_eq!((request.card.expiration_month, request.card.expiration_year), (1, 2090));
        assert_eq!(request.currency_code, "EUR");
    }

    #[test]
    fn the_state_is_optional() {
        let request = with("state", " ").checkout_request("USD").expect("the form is valid");
        assert_eq!(request.address.state, None);
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (field, value) in [
            ("email", ""),
            ("email", "no-at-sign"),
            ("email", "a@b"),
            ("email", "a@b..c"),
            ("email", "a@b@c.d"),
            ("email", "a b@example.com"),
            ("street_address", ""),
            ("street_address", "a\nb"),
            ("zip_code", "!"),
            ("zip_code", "1234567890123"),
            ("city", ""),
            ("state", "\u{7}"),
            ("country", ""),
            ("credit_card_number", "4111"),
            ("credit_card_number", "4111x11111111111"),
            ("credit_card_number", "４１１１１１１１１１１１１１１１"),
            ("credit_card_expiration_month", "13"),
            ("credit_card_expiration_month", "0"),
            ("credit_card_expiration_year", "90"),
            ("credit_card_expiration_year", "99999"),
            ("credit_card_cvv", "12"),
            ("credit_card_cvv", "12345"),
            ("credit_card_cvv", "abc"),
        ] {
            assert_eq!(wrong_fields(&with(field, value)), [field], "{field}={value}");
        }
    }

    #[test]
    fn an_empty_form_reports_every_required_field() {
        assert_eq!(wrong_fields(&Form::default()).len(), 9, "all but the state");
    }

    #[test]
    fn quantities_are_from_one_to_ten() {
        for (quantity, good) in
            [("1", true), ("10", true), ("0", false), ("11", false), ("-1", false), ("", false), ("1.5", false)]
        {
            let form = Form::parse(format!("product_id=6E92ZMYYFZ&quantity={quantity}").as_bytes());
            assert_eq!(form.cart_item().is_ok(), good, "{quantity}");
        }
    }

    #[test]
    fn a_card_is_never_sent_back() {
        let form = Form::parse(GOOD.as_bytes());
        assert_eq!(Filled::Form(&form).value("credit_card_number"), "");
        assert_eq!(Filled::Form(&form).value("credit_card_cvv"), "");
        assert_eq!(Filled::Form(&form).value("city"), "Town");
    }
}
