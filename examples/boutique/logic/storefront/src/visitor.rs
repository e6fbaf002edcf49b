//! The visitor of a request. The session and the currency are read from cookies.

use boutique_types::CurrencyInfo;

use crate::cookies;
use crate::http::{Head, Response};
use crate::services::Services;

/// The currency of the catalog's prices, and of visitors who have not chosen a currency.
pub(crate) const CURRENCY_DEFAULT: &str = "USD";

/// The visitor of one request.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// The session ID: 32 hexadecimal digits.
    pub(crate) session: String,
    /// Whether the visitor has no session yet. A new visitor has no cart and no orders.
    pub(crate) is_new: bool,
    pub(crate) currency: CurrencyInfo,
    /// The supported currencies.
    pub(crate) currencies: Vec<CurrencyInfo>,
    secure: bool,
}

impl Visitor {
    /// Returns the visitor of a request. A cookie is ignored if the shop cannot have set its value.
    pub(crate) fn of(head: &Head, services: &impl Services) -> Self {
        let currencies = services.currencies();
        let chosen = cookies::read(head, cookies::CURRENCY).unwrap_or(CURRENCY_DEFAULT);
        let currency = currencies
            .iter()
            .find(|currency| currency.code == chosen)
            .or_else(|| currencies.iter().find(|currency| currency.code == CURRENCY_DEFAULT))
            .cloned()
            .unwrap_or_else(|| CurrencyInfo {
                code: CURRENCY_DEFAULT.into(),
                name: "US dollar".into(),
                symbol: "$".into(),
                digits: 2,
            });
        let session = cookies::read(head, cookies::SESSION).filter(|session| is_session(session));
        Self {
            session: session.map_or_else(|| format!("{:032x}", services.random_u128()), str::to_owned),
            is_new: session.is_none(),
            currency,
            currencies,
            secure: head.secure,
        }
    }

    /// Adds the session's cookie to the response if the session is new.
    pub(crate) fn greet(&self, response: Response) -> Response {
        if self.is_new {
            response.with("set-cookie", cookies::keep(cookies::SESSION, &self.session, self.secure))
        } else {
            response
        }
    }
}

fn is_session(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
