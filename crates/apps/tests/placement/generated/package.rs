//! A random package with three components: the *callee* exports an interface whose functions return their arguments,
//! the *relay* forwards every call to the callee, and the *driver* only declares which functions of the relay are
//! called.
//!
//! ```text
//! driver ──front──► relay ──echo──► callee
//! ```
//!
//! Both interfaces have the same functions. The driver is never started, because the test makes its calls.

use std::fmt::Write as _;
use std::sync::Arc;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::module;
use super::types::{FLAT_MAX, Type, TypeMaker, flat_all};
use super::values::{Value, ValueMaker};
use crate::random::Random;

/// The value that a function returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gives {
    /// No result.
    Nothing,
    /// The argument of a function with one parameter.
    Only,
    /// A tuple of all arguments.
    All,
    /// A constant, whatever the arguments are.
    Constant(Type, Value),
}

/// The implementation of an `async func`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The function blocks, as if it were synchronous.
    Blocking,
    /// The function is a task with a callback.
    Callback,
}

/// A function of the interfaces `echo` and `front`.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Type>,
    pub(crate) gives: Gives,
    pub(crate) is_async: bool,
    /// The implementation in the relay, if the function is asynchronous.
    pub(crate) relay: Style,
    pub(crate) callee: Style,
}

impl Function {
    /// Returns the type of the function's result.
    pub(crate) fn result(&self) -> Option<Type> {
        match &self.gives {
            Gives::Nothing => None,
            Gives::Only => Some(self.parameters[0].clone()),
            Gives::All => Some(Type::Tuple(self.parameters.clone())),
            Gives::Constant(ty, _) => Some(ty.clone()),
        }
    }

    /// Returns the expected result of a call with the given arguments.
    pub(crate) fn expected_result(&self, arguments: &[Value]) -> Option<Value> {
        match &self.gives {
            Gives::Nothing => None,
            Gives::Only => Some(arguments[0].clone()),
            Gives::All => Some(Value::Fields(arguments.to_vec())),
            Gives::Constant(_, value) => Some(value.clone()),
        }
    }

    /// Returns the declaration of the function in WIT.
    pub(crate) fn declaration(&self) -> String {
        let parameters = self.parameters.iter().enumerate();
        let parameters = parameters.map(|(number, ty)| format!("p{number}: {}", ty.reference())).collect::<Vec<_>>();
        let result = self.result().map(|ty| format!(" -> {}", ty.reference())).unwrap_or_default();
        let is_async = if self.is_async { "async " } else { "" };
        format!("{}: {is_async}func({}){result};", self.name, parameters.join(", "))
    }

    /// Returns the names of the properties that the function and its types have.
    pub(crate) fn traits(&self) -> Vec<&'static str> {
        let flat = flat_all(&self.parameters).len();
        let result = self.result().map_or(0, |ty| ty.flat().len());
        let mut traits = vec![
            match (self.is_async, self.relay, self.callee) {
                (false, ..) => "sync",
                (true, Style::Blocking, Style::Blocking) => "both blocking",
                (true, Style::Callback, Style::Callback) => "both with a callback",
                (true, Style::Callback, Style::Blocking) => "relay with a callback",
                (true, Style::Blocking, Style::Callback) => "callee with a callback",
            },
            if self.is_async { "async" } else { "sync" },
            match flat {
                0 => "no parameters",
                1..=FLAT_MAX => "in registers",
                _ => "spilled",
            },
            match self.gives {
                Gives::Nothing => "no result",
                Gives::Only => "only",
                Gives::All => "all",
                Gives::Constant(..) => "constant",
            },
            if result > 1 { "result in memory" } else { "result in a register" },
        ];
        self.parameters.iter().chain(&self.result()).for_each(|ty| ty.traits(&mut traits));
        traits
    }

    fn make(number: usize, maker: &mut TypeMaker, random: &mut Random) -> Self {
        let is_async = random.one_in(3);
        let mut style = || if random.one_in(2) { Style::Callback } else { Style::Blocking };
        let (relay, callee) = (style(), style());
        let depth = random.between(0, 4);
        let mut parameters: Vec<_> = (0..random.below(6)).map(|_| maker.make(random, depth)).collect();
        // A third of the functions have more parameters than are passed as flat values.
        while number.is_multiple_of(3) && flat_all(&parameters).len() <= FLAT_MAX {
            parameters.push(maker.make(random, depth + 1));
        }
        let gives = match (parameters.len(), random.below(12)) {
            (_, 0) => Gives::Nothing,
            (0, _) | (_, 1) => {
                let ty = maker.make(random, depth + 1);
                let value = ValueMaker::new(random).make(&ty);
                Gives::Constant(ty, value)
            }
            (1, 2..=8) => Gives::Only,
            _ => Gives::All,
        };
        Self { name: format!("call-{number}"), parameters, gives, is_async, relay, callee }
    }
}

/// A WIT package with the functions that its components import and export.
#[derive(Debug)]
pub(crate) struct Package {
    /// The name of the package, for example `test:p3`.
    pub(crate) name: String,
    pub(crate) functions: Vec<Function>,
    wit: String,
}

/// The version of all generated packages.
pub(crate) const VERSION: &str = "0.1.0";

impl Package {
    /// Generates the package `test:p` plus `number`, with `functions` random functions.
    pub(crate) fn make(number: usize, functions: usize, random: &mut Random) -> Self {
        let mut maker = TypeMaker::default();
        let functions = (0..functions).map(|number| Function::make(number, &mut maker, random)).collect();
        Self::of(format!("test:p{number}"), functions, random.one_in(2))
    }

    /// Creates a package with the given functions. If `shared_types` is true, a separate interface defines the named
    /// types; otherwise, each interface defines them.
    pub(crate) fn of(name: String, functions: Vec<Function>, shared_types: bool) -> Self {
        let (mut definitions, mut named) = (String::new(), vec![]);
        for function in &functions {
            function.parameters.iter().for_each(|ty| ty.define(&mut definitions, &mut named));
            if let Gives::Constant(ty, _) = &function.gives {
                ty.define(&mut definitions, &mut named);
            }
        }
        let declarations: String = functions.iter().map(|function| function.declaration() + "\n").collect();
        let mut wit = format!("package {name}@{VERSION};\n");
        let own = if shared_types && !named.is_empty() {
            let _ = writeln!(wit, "interface types {{\n{definitions}}}");
            format!("use types.{{{}}};\n", named.join(", "))
        } else {
            definitions
        };
        for interface in ["echo", "front"] {
            let _ = writeln!(wit, "interface {interface} {{\n{own}{declarations}}}");
        }
        wit.push_str("world driver { import front; }\nworld relay { import echo; export front; }\n");
        wit.push_str("world callee { export echo; }\n");
        Self { name, functions, wit }
    }

    /// Returns the full name of an interface of the package, with its version.
    pub(crate) fn interface(&self, name: &str) -> String {
        format!("{}/{name}@{VERSION}", self.name)
    }

    /// Returns the component for a world of the package: `driver`, `relay` or `callee`.
    pub(crate) fn component(&self, world: &str) -> Arc<[u8]> {
        let text = match world {
            "driver" => module::driver(self),
            "relay" => module::relay(self),
            _ => module::callee(self),
        };
        let mut resolve = Resolve::default();
        let package = resolve.push_str("test.wit", &self.wit).unwrap_or_else(|error| panic!("{error}\n{}", self.wit));
        let selected = resolve.select_world(&[package], Some(world)).expect("the package has the world");
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        wit_component::embed_component_metadata(&mut module, &resolve, selected, StringEncoding::UTF8)
            .expect("the metadata embeds");
        let encoder = ComponentEncoder::default().module(&module).expect("the module has metadata").validate(true);
        let encoded = { encoder }.encode();
        encoded.unwrap_or_else(|error| panic!("{world}: {error:#}\n{}", self.wit)).into()
    }
}
