//! Lists of resource attributes: `KEY=VALUE,KEY=VALUE`.

use percent_encoding::percent_decode_str;

/// The maximum number of attributes.
const ATTRIBUTES_MAX: usize = 64;

/// The maximum length of the list in bytes.
const LIST_BYTES_MAX: usize = 16 << 10;

/// Parses a list of attributes with percent-encoded values. Returns a description of the first mistake.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > LIST_BYTES_MAX {
        return Err(format!("it is longer than {LIST_BYTES_MAX} bytes"));
    }
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (index, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        let number = index + 1;
        let Some((key, value)) = entry.split_once('=') else {
            return Err(format!("entry {number} has no `=`: write `KEY=VALUE,KEY=VALUE`"));
        };
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(|text| text.into_owned());
        match (decoded(key), decoded(value)) {
            (Some(key), Some(value)) if !key.is_empty() => {
                attributes.retain(|(known, _)| *known != key);
                attributes.push((key, value));
            }
            _ => return Err(format!("entry {number} is not a key and a value in UTF-8")),
        }
    }
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(format!("it has more than {ATTRIBUTES_MAX} attributes"));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts() {
        let parsed = parse("a=1,,b=%2C,a=2").unwrap();
        assert_eq!(parsed, [("b".to_owned(), ",".to_owned()), ("a".to_owned(), "2".to_owned())]);
        assert!(parse("=x").is_err() && parse("a=%ff").is_err() && parse(&"a=1,".repeat(10_000)).is_err());
        let many: String = (0..65).map(|number| format!("k{number}=1,")).collect();
        assert!(parse(&many).is_err());
    }
}
