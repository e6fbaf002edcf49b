//! Variables: `${name}` is replaced by a value that an earlier case captured, and `$${` by `${`.

use std::collections::BTreeMap;

use serde_json::Value;

/// The values that the cases of one run have captured, by variable.
pub(crate) type Variables = BTreeMap<String, String>;

/// A part of a text: plain text or a variable.
enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(at) = text.find("${") {
        if text[..at].ends_with('$') {
            // In `$${`, the text up to the first `$` is kept, and the second `$` is dropped.
            pieces.push(Piece::Text(&text[..at]));
            pieces.push(Piece::Text("{"));
            text = &text[at + 2..];
            continue;
        }
        let Some(length) = text[at + 2..].find('}') else { break };
        pieces.push(Piece::Text(&text[..at]));
        pieces.push(Piece::Variable(&text[at + 2..at + 2 + length]));
        text = &text[at + 2 + length + 1..];
    }
    pieces.push(Piece::Text(text));
    pieces
}

/// Returns the names of the variables in a text.
pub(crate) fn used(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Variable(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Returns the text with variables replaced by their values. `form` encodes each value.
///
/// # Errors
/// Returns the name of the first variable that has no value.
pub(crate) fn filled(text: &str, variables: &Variables, form: impl Fn(&str) -> String) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Variable(name) => filled.push_str(&form(variables.get(name).ok_or_else(|| name.to_owned())?)),
        }
    }
    Ok(filled)
}

/// Returns the text with variables replaced by their values.
///
/// # Errors
/// The errors of [`filled`].
pub(crate) fn plain(text: &str, variables: &Variables) -> Result<String, String> {
    filled(text, variables, str::to_owned)
}

/// Returns the JSON value with the variables in its strings replaced by their values.
///
/// # Errors
/// The errors of [`filled`].
pub(crate) fn json(value: &Value, variables: &Variables) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(plain(text, variables)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| json(item, variables)).collect::<Result<_, _>>()?),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| Ok((key.clone(), json(value, variables)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

/// Returns the names of the variables in the strings of a JSON value.
pub(crate) fn used_by_json(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => used(text).collect(),
        Value::Array(items) => items.iter().flat_map(used_by_json).collect(),
        Value::Object(fields) => fields.values().flat_map(used_by_json).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_other_text_stays() {
        let variables = Variables::from([("id".to_owned(), "a b".to_owned())]);
        for (text, filled) in [
            ("/orders/${id}", "/orders/a b"),
            ("${id}${id}", "a ba b"),
            ("no $id, $5, } {", "no $id, $5, } {"),
            ("$${id} and ${id}", "${id} and a b"),
            ("${id", "${id"),
        ] {
            assert_eq!(plain(text, &variables).as_deref(), Ok(filled));
        }
        assert_eq!(plain("/${order}/${id}", &variables), Err("order".to_owned()));
        assert_eq!(used("$${a} ${b} ${c}").collect::<Vec<_>>(), ["b", "c"]);
    }
}
