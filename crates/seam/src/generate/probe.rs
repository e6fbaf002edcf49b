//! The interface `isomer:probe/probe@1.0.0` in this crate's model of interfaces. `wit/probe.wit` is the original, and a
//! test compares the two definitions.

use wasmparser::PrimitiveValType;

use crate::world::{Function, Interface, ValueType};

/// The id of the interface that probed components import.
pub(crate) const PROBE: &str = "isomer:probe/probe@1.0.0";
/// The function that reports the start of a call.
pub(crate) const ENTER: &str = "enter";
/// The function that reports the end of a call.
pub(crate) const EXIT: &str = "exit";

/// Returns the interface [`PROBE`].
pub(crate) fn probe() -> Interface {
    let function = |name: &str| {
        let number = ("function".to_owned(), ValueType::Primitive(PrimitiveValType::U32));
        (name.to_owned(), Function { is_async: false, parameters: vec![number], result: None })
    };
    Interface { name: PROBE.to_owned(), types: vec![], functions: [ENTER, EXIT].map(function).into() }
}

#[cfg(test)]
mod tests {
    use wit_component::{ComponentEncoder, StringEncoding};
    use wit_parser::{ManglingAndAbi, Resolve};

    use super::*;

    #[test]
    fn the_model_matches_the_wit() {
        let mut resolve = Resolve::default();
        let probe = resolve.push_str("probe.wit", include_str!("../../wit/probe.wit")).expect("the WIT is right");
        let text = "package test:it; world it { import isomer:probe/probe@1.0.0; }";
        let package = resolve.push_str("it.wit", text).expect("the WIT is right");
        let world = resolve.select_world(&[probe, package], Some("test:it/it")).expect("the world exists");
        let mut module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the metadata can be embedded");
        let bytes = ComponentEncoder::default()
            .module(&module)
            .expect("the module fits the world")
            .encode()
            .expect("the component is valid");
        let world = crate::reader::world(&bytes).expect("the component can be read");
        assert_eq!(world.import(PROBE), Some(&super::probe()));
    }
}
