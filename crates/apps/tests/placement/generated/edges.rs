//! A package of types that random generation seldom produces: the largest and smallest types of every kind, and types
//! next to a limit.

use super::package::{Function, Gives, Package, Style};
use super::types::{FLAT_MAX, Type};

const U8: Type = Type::Integer(1, false);
const U64: Type = Type::Integer(8, false);

/// Creates the package.
pub(crate) fn package() -> Package {
    let mut functions = vec![];
    for ty in types() {
        let list = Type::List(Box::new(ty.clone()));
        for parameters in [vec![ty.clone()], vec![list.clone()], vec![U8, Type::Option(Box::new(ty)), U8, list]] {
            let gives = if parameters.len() == 1 { Gives::Only } else { Gives::All };
            add(&mut functions, parameters, gives);
        }
    }
    // A task gets at most 4 flat values as parameters, and a function at most `FLAT_MAX`; larger numbers are passed in
    // memory. So both maxima are tested, and both maxima plus one.
    for count in [1, 2, 3, 4, 5, FLAT_MAX - 1, FLAT_MAX, FLAT_MAX + 1, 40] {
        for ty in [U8, Type::F32] {
            add(&mut functions, vec![ty.clone(); count], Gives::All);
            add(&mut functions, vec![ty; count], Gives::Nothing);
        }
    }
    add(&mut functions, vec![], Gives::Nothing);
    Package::of("test:edges".to_owned(), functions, true)
}

/// Adds a synchronous and an asynchronous function with the given parameters and result.
fn add(functions: &mut Vec<Function>, parameters: Vec<Type>, gives: Gives) {
    let asynchronous = [Style::Blocking, Style::Callback].map(|style| (true, style, style));
    // The implementations of asynchronous functions alternate, because all combinations would be too many.
    let both = asynchronous[functions.len() % 2];
    for (is_async, relay, callee) in [(false, Style::Blocking, Style::Blocking), both] {
        let name = format!("call-{}", functions.len());
        let (parameters, gives) = (parameters.clone(), gives.clone());
        functions.push(Function { name, parameters, gives, is_async, relay, callee });
    }
}

fn types() -> Vec<Type> {
    let boxed = |ty: Type| Box::new(ty);
    vec![
        Type::Enum(0, 1),
        Type::Enum(1, 256),
        Type::Enum(2, 257),
        Type::Flags(3, 1),
        Type::Flags(4, 8),
        Type::Flags(5, 9),
        Type::Flags(6, 17),
        Type::Flags(7, 32),
        Type::Char,
        Type::String,
        // The cases of this variant share flat values of every pair of types.
        Type::Variant(8, vec![Some(Type::F32), Some(U64), Some(Type::F64), Some(Type::String), None, Some(U8)]),
        Type::Variant(9, vec![Some(Type::F32), Some(Type::Integer(4, true)), None]),
        Type::Result(None, None),
        Type::Result(
            Some(boxed(Type::Tuple(vec![Type::F64, Type::F32]))),
            Some(boxed(Type::Tuple(vec![U8, Type::Char]))),
        ),
        Type::Option(boxed(Type::Option(boxed(Type::Option(boxed(Type::Bool)))))),
        // This record has padding before, between and after its fields.
        Type::Record(10, vec![U8, U64, U8, Type::Integer(2, true), U8, Type::F64, Type::Bool]),
        Type::Variant(11, vec![Some(Type::Tuple(vec![U8, U64])), Some(Type::Tuple(vec![U64, U8])), Some(U8)]),
        Type::List(boxed(Type::List(boxed(Type::List(boxed(U8)))))),
        Type::Tuple(vec![Type::String; 9]),
        // This variant has more cases than one byte can number.
        Type::Variant(12, (0..300).map(|number| (number % 150 == 7).then_some(U64)).collect()),
    ]
}
