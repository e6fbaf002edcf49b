//! The interface `isomer:link/wire@1.0.0` in this crate's model of interfaces. `wit/wire.wit` is the original, and a
//! test compares the two definitions.

use std::collections::BTreeMap;

use wasmparser::PrimitiveValType as Primitive;

use crate::world::{Function, Interface, TypeDefinition, ValueType};

/// The id of the interface that stubs import.
pub(crate) const WIRE: &str = "isomer:link/wire@1.0.0";

/// The number of the case `refused` of `call-error`.
pub(crate) const CALL_ERROR_REFUSED: u32 = 3;
/// The number of the case `unknown-function` of `refusal`.
pub(crate) const UNKNOWN_FUNCTION: i32 = 0;
/// The number of the case `bad-image` of `refusal`.
pub(crate) const BAD_IMAGE: i32 = 1;

/// Returns the interface [`WIRE`].
pub(crate) fn wire() -> Interface {
    let answer = || ValueType::Result(Some(Box::new(image())), Some(Box::new(named("call-error"))));
    let functions = [
        ("call", false, vec![("function", u32()), ("image", image())], Some(answer())),
        ("begin", true, vec![("ticket", u32()), ("function", u32()), ("image", image())], None),
        ("take", false, vec![("ticket", u32())], Some(answer())),
        ("refuse", false, vec![("function", u32())], None),
    ];
    interface(WIRE, ("call-error", &["unreachable", "deadline", "overloaded", "refused"]), functions)
}

type Written = (&'static str, bool, Vec<(&'static str, ValueType)>, Option<ValueType>);

fn interface(name: &str, (error, cases): (&str, &[&str]), functions: impl IntoIterator<Item = Written>) -> Interface {
    let cases = cases.iter().map(|case| (*case).to_owned()).collect();
    let function = |(name, is_async, parameters, result): Written| {
        let parameters = parameters.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect();
        (name.to_owned(), Function { is_async, parameters, result })
    };
    Interface {
        name: name.to_owned(),
        types: vec![(error.to_owned(), TypeDefinition::Value(ValueType::Enum(cases)))],
        functions: functions.into_iter().map(function).collect::<BTreeMap<_, _>>(),
    }
}

fn u32() -> ValueType {
    ValueType::Primitive(Primitive::U32)
}

fn image() -> ValueType {
    ValueType::List(Box::new(ValueType::Primitive(Primitive::U8)))
}

fn named(name: &str) -> ValueType {
    ValueType::Named(name.to_owned())
}

#[cfg(test)]
mod tests {
    use wit_component::{ComponentEncoder, StringEncoding};
    use wit_parser::{ManglingAndAbi, Resolve};

    use super::*;

    #[test]
    fn the_model_matches_the_wit() {
        let mut resolve = Resolve::default();
        let link = resolve.push_str("wire.wit", include_str!("../../wit/wire.wit")).expect("the WIT is right");
        let text = "package test:it; world it { import isomer:link/wire@1.0.0; }";
        let package = resolve.push_str("it.wit", text).expect("the WIT is right");
        let world = resolve.select_world(&[link, package], Some("test:it/it")).expect("the world exists");
        let mut module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the metadata can be embedded");
        let bytes = ComponentEncoder::default()
            .module(&module)
            .expect("the module fits the world")
            .encode()
            .expect("the component is valid");
        let world = crate::reader::world(&bytes).expect("the component can be read");
        assert_eq!(world.import(WIRE), Some(&wire()));
    }
}
