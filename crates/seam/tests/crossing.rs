//! Tests that values are unchanged after a call through a stub and a skeleton.

mod support;

use support::crossing::{callee, caller};
use wasmtime::Engine;
use wasmtime::component::Val;
use wit_component::StringEncoding;

const SHOP: &str = r#"
    enum currency { eur, usd, chf }
    record money { units: s64, nanos: s32, currency: currency }
    record item { id: string, price: money, tags: list<string>, note: option<string> }
    variant failure { sold-out(string), rejected, limit(u8) }
    add: func(a: u32, b: u8) -> u32;
    small: func(a: u8) -> option<u8>;
    lookup: func(id: string) -> string;
    pass: func(item: item) -> item;
    charge: func(amount: result<money, failure>, items: list<tuple<u16, item>>) -> result<money, failure>;
    tell: func(what: list<u8>);
    many: func(a: item, b: item, c: list<item>) -> item;
"#;

fn string(text: &str) -> Val {
    Val::String(text.to_owned())
}

fn record(fields: &[(&str, Val)]) -> Val {
    Val::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

fn money(units: i64) -> Val {
    record(&[("units", Val::S64(units)), ("nanos", Val::S32(-7)), ("currency", Val::Enum("usd".to_owned()))])
}

fn item(note: Option<&str>) -> Val {
    let note = Val::Option(note.map(|note| Box::new(string(note))));
    let tags = Val::List(vec![string("a"), string(""), string("grün")]);
    record(&[("id", string("OLJCESPC7Z")), ("price", money(-12)), ("tags", tags), ("note", note)])
}

#[test]
fn values_cross_unchanged() {
    let engine = Engine::default();
    let utf8 = StringEncoding::UTF8;
    let mut caller = caller(&engine, SHOP, utf8, callee(&engine, SHOP, utf8));
    let failed = |case: &str, value: Option<Val>| {
        Val::Result(Err(Some(Box::new(Val::Variant(case.to_owned(), value.map(Box::new))))))
    };
    let items = |count: usize| {
        let item = |number| Val::Tuple(vec![Val::U16(number), item(Some("x"))]);
        Val::List((0..count).map(|number| item(u16::try_from(number).expect("a small number"))).collect())
    };
    let calls: Vec<(&str, Vec<Val>)> = vec![
        ("add", vec![Val::U32(7), Val::U8(3)]),
        ("lookup", vec![string("")]),
        ("lookup", vec![string(&"long ".repeat(50_000))]),
        ("pass", vec![item(None)]),
        ("pass", vec![item(Some("für später"))]),
        ("charge", vec![failed("rejected", None), items(0)]),
        ("charge", vec![failed("sold-out", Some(string("x"))), items(3)]),
        ("charge", vec![failed("limit", Some(Val::U8(9))), items(200)]),
        ("charge", vec![Val::Result(Ok(Some(Box::new(money(1))))), items(1)]),
        ("many", vec![item(None), item(Some("b")), Val::List(vec![item(None), item(Some("c"))])]),
    ];
    for round in 0..3 {
        for (function, arguments) in &calls {
            let result = caller.call(function, arguments).expect("the call returns");
            assert_eq!(result.as_ref(), Some(&arguments[0]), "{function}, round {round}");
            assert_eq!(caller.store.data_mut().callee().store.data_mut().calls.pop().as_ref(), Some(arguments));
        }
        assert_eq!(caller.call("tell", &[Val::List(vec![Val::U8(1), Val::U8(2)])]).expect("the call returns"), None);
        for value in [None, Some(Val::U8(255))] {
            let answer = value.map_or(Val::Option(None), some);
            caller.store.data_mut().callee().store.data_mut().answers = vec![answer.clone()];
            assert_eq!(caller.call("small", &[Val::U8(0)]).expect("the call returns"), Some(answer));
        }
    }
}

/// Tests NaN, functions without parameters or result, and variants whose cases share flat values of different types.
#[test]
fn floats_in_variants_cross_and_no_values_are_an_empty_image() {
    let engine = Engine::default();
    let utf8 = StringEncoding::UTF8;
    let functions = "
        variant number { short(f32), long(f64), whole(u64), none }
        either: func(it: number) -> number;
        long: func(it: f64) -> f64;
        nothing: func();
        short: func(it: f32) -> f32;
    ";
    let mut caller = caller(&engine, functions, utf8, callee(&engine, functions, utf8));
    let number = |case: &str, value| Val::Variant(case.to_owned(), Some(Box::new(value)));
    for _ in 0..2 {
        let Some(Val::Float32(float)) = caller.call("short", &[Val::Float32(f32::NAN)]).expect("the call returns")
        else {
            panic!("the result is not a float")
        };
        assert!(float.is_nan());
        let Some(Val::Float64(float)) = caller.call("long", &[Val::Float64(f64::NAN)]).expect("the call returns")
        else {
            panic!("the result is not a float")
        };
        assert!(float.is_nan());
        for value in [
            number("short", Val::Float32(-0.0)),
            number("long", Val::Float64(f64::MIN_POSITIVE)),
            number("whole", Val::U64(u64::MAX)),
            Val::Variant("none".to_owned(), None),
        ] {
            let answer = caller.call("either", std::slice::from_ref(&value)).expect("the call returns");
            assert_eq!(answer, Some(value));
        }
        assert_eq!(caller.call("nothing", &[]).expect("the call returns"), None);
    }
    let images = &caller.store.data_mut().images;
    assert!(images.iter().any(Vec::is_empty), "no image is empty");
}
