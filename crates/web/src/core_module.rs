//! Makes core modules smaller: removes custom sections, which a browser does not need.

use wasmparser::{BinaryReaderError, Parser, Payload};

/// Returns `module` without custom sections: names of functions, producers, and debug information.
pub(crate) fn strip(module: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut stripped = Vec::with_capacity(module.len());
    let mut copied = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let section = match &payload {
            Payload::CustomSection(section) => section.range(),
            Payload::Version { range, .. } => {
                stripped.extend_from_slice(&module[range.clone()]);
                copied = range.end;
                continue;
            }
            Payload::CodeSectionEntry(_) => continue,
            other => match other.as_section() {
                Some((_, range)) => {
                    stripped.extend_from_slice(&module[copied..range.end]);
                    copied = range.end;
                    continue;
                }
                None => continue,
            },
        };
        copied = section.end;
    }
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_custom_sections_are_removed() {
        let module = wat::parse_str(
            r#"(module $named (@custom "first" (before first) "x") (memory (export "memory") 1)
                (func $one (export "one") (result i32) (i32.const 1)) (data (i32.const 0) "data") (@custom "last" "y"))"#,
        )
        .expect("the text is right");
        let stripped = strip(&module).expect("the module is valid");
        wasmparser::validate(&stripped).expect("the module stays valid");
        let count = |module: &[u8], wanted: fn(&Payload<'_>) -> bool| {
            Parser::new(0).parse_all(module).filter(|payload| wanted(payload.as_ref().expect("valid"))).count()
        };
        let is_custom: fn(&Payload<'_>) -> bool = |payload| matches!(payload, Payload::CustomSection(_));
        assert_eq!((count(&module, is_custom), count(&stripped, is_custom)), (3, 0));
        let is_section: fn(&Payload<'_>) -> bool =
            |payload| payload.as_section().is_some() && !matches!(payload, Payload::CustomSection(_));
        assert_eq!(count(&module, is_section), count(&stripped, is_section));
        assert_eq!(strip(&stripped).expect("valid"), stripped);
    }

    #[test]
    fn bytes_that_are_not_a_module_are_refused() {
        assert!(strip(b"\0asm").is_err());
    }
}
