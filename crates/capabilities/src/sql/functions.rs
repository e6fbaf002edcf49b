//! Replacements for SQLite functions that can take hours, or allocate gigabytes, in one call.
//!
//! A function call is one instruction of SQLite's virtual machine, so the time limit is not checked during the call.
//! The time of `instr`, `replace`, `trim`, `ltrim` and `rtrim` is proportional to the product of their arguments' sizes
//! (an hour for two values of a few megabytes), and `concat` allocates its result before it checks the size of the
//! result. The functions here return the same results, and their time and memory are proportional to the sizes of input
//! and output.

use std::borrow::Cow;
use std::collections::HashSet;

use memchr::memmem;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, ffi};

/// SQLite functions that take quadratic time and have no replacement here. Guests cannot call them.
pub(crate) const QUADRATIC: [&str; 2] = ["json_patch", "jsonb_patch"];

/// Defines, on `connection`, functions that replace SQLite's functions of the same names. They return an error if a
/// result is larger than `value_bytes_max`.
pub(crate) fn define(connection: &Connection, value_bytes_max: usize) -> Result<(), Error> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("instr", 2, flags, instr)?;
    connection.create_scalar_function("replace", 3, flags, move |context| replace(context, value_bytes_max))?;
    for (name, left, right) in [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)] {
        for arguments in [1, 2] {
            connection.create_scalar_function(name, arguments, flags, move |context| trim(context, left, right))?;
        }
    }
    connection.create_scalar_function("concat", -1, flags, move |context| {
        let values = (0..context.len()).filter_map(|index| bytes(context.get_raw(index)));
        join(values, b"", value_bytes_max)
    })?;
    connection.create_scalar_function("concat_ws", -1, flags, move |context| {
        if context.len() < 2 {
            return Err(Error::SqliteFailure(
                ffi::Error::new(ffi::SQLITE_ERROR),
                Some("wrong number of arguments to function concat_ws()".to_owned()),
            ));
        }
        let Some(separator) = bytes(context.get_raw(0)) else { return Ok(Value::Null) };
        join((1..context.len()).filter_map(|index| bytes(context.get_raw(index))), &separator, value_bytes_max)
    })
}

/// Converts a value to text as SQLite does; returns `None` for NULL.
fn bytes(value: ValueRef<'_>) -> Option<Cow<'_, [u8]>> {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(integer) => Cow::Owned(integer.to_string().into_bytes()),
        ValueRef::Real(real) => Cow::Owned(real_text(real).into_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cow::Borrowed(bytes),
    })
}

/// Formats a number as SQLite does: the shortest digits that parse to the same number, with a decimal point.
fn real_text(real: f64) -> String {
    if real.is_infinite() {
        return if real > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    if real == 0.0 {
        return "0.0".to_owned();
    }
    let text = format!("{real:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        let plain = format!("{real}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}{point}e{sign}{:02}", exponent.unsigned_abs())
}

fn text(bytes: Cow<'_, [u8]>) -> Value {
    Value::Text(match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
    })
}

fn too_big() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None)
}

/// Returns the number of characters as SQLite counts them: all bytes except UTF-8 continuation bytes.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn instr(context: &Context<'_>) -> Result<Value, Error> {
    let (within, sought) = (context.get_raw(0), context.get_raw(1));
    let in_bytes = matches!((within, sought), (ValueRef::Blob(_), ValueRef::Blob(_)));
    let (Some(within), Some(sought)) = (bytes(within), bytes(sought)) else { return Ok(Value::Null) };
    let found = memmem::find(&within, &sought).map_or(0, |at| match in_bytes {
        true => at + 1,
        false => characters(&within[..at]) + 1,
    });
    Ok(Value::Integer(i64::try_from(found).unwrap_or(i64::MAX)))
}

fn replace(context: &Context<'_>, bytes_max: usize) -> Result<Value, Error> {
    let [within, sought, by] = [0, 1, 2].map(|index| bytes(context.get_raw(index)));
    let (Some(within), Some(sought)) = (within, sought) else { return Ok(Value::Null) };
    if sought.is_empty() {
        return Ok(text(within));
    }
    let Some(by) = by else { return Ok(Value::Null) };
    let mut replaced = Vec::with_capacity(within.len());
    let mut from = 0;
    for at in memmem::find_iter(&within, &sought) {
        replaced.extend_from_slice(&within[from..at]);
        replaced.extend_from_slice(&by);
        from = at + sought.len();
        if replaced.len() > bytes_max {
            return Err(too_big());
        }
    }
    replaced.extend_from_slice(&within[from..]);
    if replaced.len() > bytes_max {
        return Err(too_big());
    }
    Ok(text(Cow::Owned(replaced)))
}

/// Splits text into its UTF-8 characters, each as a slice of bytes.
fn split_characters(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    bytes.chunk_by(|_, next| *next & 0xc0 == 0x80)
}

fn trim(context: &Context<'_>, left: bool, right: bool) -> Result<Value, Error> {
    let Some(within) = bytes(context.get_raw(0)) else { return Ok(Value::Null) };
    let set = if context.len() > 1 { bytes(context.get_raw(1)) } else { Some(Cow::Borrowed(&b" "[..])) };
    let Some(set) = set else { return Ok(Value::Null) };
    let set: HashSet<&[u8]> = split_characters(&set).collect();
    let cut = |characters: &mut dyn Iterator<Item = &[u8]>| -> usize {
        characters.take_while(|character| set.contains(character)).map(<[u8]>::len).sum()
    };
    let start = if left { cut(&mut split_characters(&within)) } else { 0 };
    let rest = &within[start..];
    let end = rest.len() - if right { cut(&mut split_characters(rest).rev()) } else { 0 };
    Ok(text(Cow::Borrowed(&rest[..end])))
}

fn join<'a>(values: impl Iterator<Item = Cow<'a, [u8]>>, separator: &[u8], bytes_max: usize) -> Result<Value, Error> {
    let mut joined: Option<Vec<u8>> = None;
    for value in values {
        match &mut joined {
            Some(joined) => {
                joined.extend_from_slice(separator);
                joined.extend_from_slice(&value);
            }
            None => joined = Some(value.into_owned()),
        }
        if joined.as_ref().is_some_and(|joined| joined.len() > bytes_max) {
            return Err(too_big());
        }
    }
    Ok(text(Cow::Owned(joined.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the result of each replacement with the result of SQLite's own function.
    #[test]
    fn results_equal_those_of_sqlite() {
        isomer_sqlite_heap::install().unwrap();
        let (own, theirs) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        define(&own, 1 << 20).unwrap();
        let values = [
            "NULL",
            "''",
            "'a'",
            "'ab'",
            "'aab'",
            "' a b '",
            "'süß'",
            "'ß'",
            "'ü'",
            "x''",
            "x'6162'",
            "x'62'",
            "0",
            "12",
            "-7",
            "1.5",
            "1.0",
            "0.1",
            "1e20",
            "1e-7",
            "-2.5e300",
            "123456789.125",
            "9e999",
            "'\u{1F980}x\u{1F980}'",
        ];
        let mut statements = Vec::new();
        for a in values {
            for b in values {
                for name in ["instr", "trim", "ltrim", "rtrim", "concat", "concat_ws"] {
                    statements.push(format!("{name}({a}, {b})"));
                }
                for c in ["NULL", "''", "'x'", "'ab'", "2", "0.5"] {
                    statements.push(format!("replace({a}, {b}, {c})"));
                    statements.push(format!("concat_ws({a}, {b}, {c})"));
                }
            }
            for name in ["trim", "ltrim", "rtrim", "concat"] {
                statements.push(format!("{name}({a})"));
            }
        }
        let mut different = Vec::new();
        for statement in statements {
            let answer = |connection: &Connection| {
                let query = format!("SELECT {statement}");
                connection.query_row(&query, [], |row| row.get::<_, Value>(0)).map_err(|error| error.to_string())
            };
            let (own, theirs) = (answer(&own), answer(&theirs));
            if own != theirs {
                different.push(format!("{statement}: {own:?}, not {theirs:?}"));
            }
        }
        assert_eq!(different, Vec::<String>::new());
    }

    #[test]
    fn expensive_calls_are_fast_or_refused() {
        isomer_sqlite_heap::install().unwrap();
        let connection = Connection::open_in_memory().unwrap();
        define(&connection, 8 << 20).unwrap();
        let ask = |statement: &str| connection.query_row(statement, [], |row| row.get::<_, i64>(0));
        // The needle is half as long as the haystack, and matches at each position except for its last byte.
        let hay = "hex(zeroblob(4000000))";
        assert_eq!(ask(&format!("SELECT instr({hay}, hex(zeroblob(2000000)) || 'x')")).unwrap(), 0);
        assert_eq!(
            ask(&format!("SELECT length(replace({hay}, hex(zeroblob(2000000)) || 'x', ''))")).unwrap(),
            8_000_000
        );
        assert_eq!(ask(&format!("SELECT length(trim({hay}, hex(zeroblob(2000000))))")).unwrap(), 0);
        for bomb in [format!("length(replace({hay}, '0', {hay}))"), format!("length(concat({hay}, {hay}, {hay}))")] {
            let refused = ask(&format!("SELECT {bomb}")).unwrap_err();
            assert_eq!(refused.sqlite_error_code(), Some(ffi::ErrorCode::TooBig), "{refused}");
        }
    }
}
