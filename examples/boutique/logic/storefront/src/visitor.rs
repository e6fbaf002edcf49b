//! Who is there: the session and the currency, out of the cookies.

use boutique_types::CurrencyInfo;

use crate::cookies;
use crate::http::{Head, Response};
use crate::services::Services;

/// The currency of a visitor who has chosen none, and of the catalog's prices.
pub(crate) const CURRENCY_DEFAULT: &str = "USD";

/// The visitor of one request.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// 32 hexadecimal digits.
    pub(crate) session: String,
    /// Has the browser no session yet? Then there is no cart and no order either.
    pub(crate) is_new: bool,
    pub(crate) currency: CurrencyInfo,
    /// All currencies to choose from.
    pub(crate) currencies: Vec<CurrencyInfo>,
    secure: bool,
}

impl Visitor {
    /// A cookie that the shop did not make is as good as none.
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

    /// The answer, with the cookie of a new session.
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
