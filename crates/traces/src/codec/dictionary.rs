//! Texts that records contain as numbers: the keys of attributes, and values that many spans have.
//!
//! The numbers are part of the format of the files. So the order of the list never changes, and new texts are added at
//! its end.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::RandomState;

/// Texts with a number below this one are in the dictionary, which therefore must have fewer texts. Texts with this
/// number or a higher one are in the record's own table.
pub(super) const OWN_TEXTS_START: u64 = 96;

/// The texts. The first text has the number 1; 0 means that a new text follows.
const TEXTS: &[&str] = &[
    "http.request.method",
    "http.response.body.size",
    "http.route",
    "http.response.status_code",
    "url.path",
    "url.scheme",
    "server.address",
    "server.port",
    "client.address",
    "error.type",
    "rpc.system",
    "rpc.service",
    "rpc.method",
    "db.system.name",
    "db.namespace",
    "db.operation.name",
    "db.query.text",
    "db.response.returned_rows",
    "isomer.seam.mode",
    "isomer.seam.caller",
    "isomer.seam.callee",
    "isomer.seam.argument_bytes",
    "isomer.seam.result_bytes",
    "isomer.instance.cold",
    "isomer.config.key",
    "isomer.secret.name",
    "isomer.deploy.step",
    "isomer.revision",
    "wait for instance",
    "start instance",
    "read config",
    "read secret",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "http",
    "https",
    "isomer",
    "redb",
    "sqlite",
    "fused",
    "isolated",
    "remote",
    "kv get",
    "kv set",
    "kv delete",
    "kv exists",
    "get",
    "set",
    "delete",
    "exists",
    "127.0.0.1",
    "/",
    "isomer.component",
    "isomer.request.id",
    "isomer.spans_dropped",
    "isomer.instance.components",
];

static NUMBERS: LazyLock<HashMap<&'static str, u64, RandomState>> =
    LazyLock::new(|| (1..).zip(TEXTS).map(|(number, text)| (*text, number)).collect());

/// Returns the number of a text, if the dictionary contains the text.
pub(super) fn number_of(text: &str) -> Option<u64> {
    NUMBERS.get(text).copied()
}

/// Returns the text with the number `number`.
pub(super) fn text_of(number: u64) -> Option<&'static str> {
    TEXTS.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use isomer_telemetry::semantics;

    use super::*;

    #[test]
    fn the_dictionary_contains_each_text_once() {
        assert!((TEXTS.len() as u64) < OWN_TEXTS_START);
        assert_eq!(NUMBERS.len(), TEXTS.len());
        for text in TEXTS {
            assert_eq!(number_of(text).and_then(text_of), Some(*text));
        }
        // Only frequent keys are checked, because a key that is not in the dictionary only makes records longer.
        for key in [semantics::HTTP_ROUTE, semantics::RPC_METHOD, semantics::DB_OPERATION, semantics::CALLER] {
            assert!(number_of(key).is_some(), "{key}");
        }
        assert_eq!((text_of(0), text_of(OWN_TEXTS_START)), (None, None));
        // The first and the last text of the first version of the format keep their numbers.
        assert_eq!((number_of("http.request.method"), number_of("/")), (Some(1), Some(56)));
    }
}
