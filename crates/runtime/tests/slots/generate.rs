//! Random components that instantiate a core module in every possible way: modules and components are defined inside a
//! component, imported, passed as arguments, aliased from enclosing components or from exports of instances, and
//! exported again.

use std::fmt::Write as _;

/// The type of an item that a component imports, exports or passes as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    /// A core module without imports.
    Module,
    Component(Box<Shape>),
}

/// The types of a component's imports and exports, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shape {
    imports: Vec<Type>,
    exports: Vec<Type>,
}

/// A component whose text is being written.
struct Scope {
    id: u32,
    text: String,
    items: Vec<(String, Type)>,
    instances: Vec<(String, Vec<Type>)>,
}

pub(crate) struct Generator {
    random: u64,
    ids: u32,
    scopes: Vec<Scope>,
    /// The number of definitions that may still be written.
    budget: u32,
}

/// The maximum depth of nested components.
const DEPTH_MAX: usize = 5;

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        Self { random, ids: 0, scopes: Vec::new(), budget: 60 }
    }

    pub(crate) fn component(mut self) -> String {
        self.define_component(&Shape::default()).1
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % bound
    }

    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("${kind}{}", self.ids)
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().unwrap()
    }

    fn random_type(&mut self, depth: usize) -> Type {
        if depth == 0 || self.below(2) == 0 {
            return Type::Module;
        }
        Type::Component(Box::new(self.random_shape(depth - 1)))
    }

    fn random_shape(&mut self, depth: usize) -> Shape {
        let mut types = |most: usize| {
            let count = self.below(most + 1);
            (0..count).map(|_| self.random_type(depth)).collect()
        };
        Shape { imports: types(2), exports: types(2) }
    }

    /// Defines a component with the given imports and exports. Returns its name and its text.
    fn define_component(&mut self, shape: &Shape) -> (String, String) {
        let id = self.id("c");
        let number = self.ids;
        self.scopes.push(Scope { id: number, text: String::new(), items: Vec::new(), instances: Vec::new() });
        for (index, ty) in shape.imports.iter().enumerate() {
            let item = self.id("i");
            let declared = declare(ty, &item);
            let scope = self.scope();
            writeln!(scope.text, "(import \"i{index}\" {declared})").unwrap();
            scope.items.push((item, ty.clone()));
        }
        for _ in 0..self.below(6) {
            self.statement();
        }
        for (index, ty) in shape.exports.iter().enumerate() {
            let item = self.item(ty);
            // Exports the item again under another name, which creates a new item.
            let again = self.id("e");
            let keyword = keyword(ty);
            let scope = self.scope();
            writeln!(scope.text, "(export {again} \"e{index}\" ({keyword} {item}))").unwrap();
            scope.items.push((again, ty.clone()));
        }
        let scope = self.scopes.pop().unwrap();
        (id.clone(), format!("(component {id}\n{})", scope.text))
    }

    fn statement(&mut self) {
        match self.below(3) {
            0 => {
                let module = self.item(&Type::Module);
                writeln!(self.scope().text, "(core instance (instantiate {module}))").unwrap();
            }
            1 => {
                let depth = self.below(3);
                let ty = self.random_type(depth);
                self.item(&ty);
            }
            _ => {
                let shape = self.random_shape(1);
                self.instantiate(&shape);
            }
        }
    }

    /// Instantiates a component with the given imports and exports. Defines the component first if there is none yet.
    fn instantiate(&mut self, shape: &Shape) -> String {
        let component = self.item(&Type::Component(Box::new(shape.clone())));
        let mut with = String::new();
        for (index, ty) in shape.imports.iter().enumerate() {
            let item = self.item(ty);
            write!(with, " (with \"i{index}\" ({} {item}))", keyword(ty)).unwrap();
        }
        let instance = self.id("n");
        let scope = self.scope();
        writeln!(scope.text, "(instance {instance} (instantiate {component}{with}))").unwrap();
        scope.instances.push((instance.clone(), shape.exports.clone()));
        instance
    }

    /// Returns the name of an item of the given type in the current component.
    fn item(&mut self, ty: &Type) -> String {
        for _ in 0..3 {
            let found = match self.below(4) {
                0 => self.known(ty),
                1 => self.of_outer(ty),
                2 => self.of_instance(ty),
                _ => None,
            };
            if let Some(found) = found {
                return found;
            }
        }
        if self.budget > 0 && self.scopes.len() < DEPTH_MAX && self.below(4) == 0 {
            // Instantiates a component that exports an item of this type, and aliases the export.
            self.budget -= 1;
            let shape = Shape { imports: Vec::new(), exports: vec![ty.clone()] };
            let instance = self.instantiate(&shape);
            return self.alias(&instance, 0, ty);
        }
        self.define(ty)
    }

    fn known(&mut self, ty: &Type) -> Option<String> {
        let known = self.scope().items.iter().filter(|(_, of)| of == ty).map(|(name, _)| name.clone());
        let known = known.collect();
        self.any(known)
    }

    fn of_outer(&mut self, ty: &Type) -> Option<String> {
        let outer = &self.scopes[..self.scopes.len() - 1];
        let known = outer.iter().flat_map(|scope| {
            let of_type = scope.items.iter().filter(|(_, of)| of == ty);
            of_type.map(|(name, _)| (scope.id, name.clone()))
        });
        let known = known.collect();
        let (scope, name) = self.any(known)?;
        let alias = self.id("o");
        let keyword = keyword(ty);
        let here = self.scope();
        writeln!(here.text, "(alias outer $c{scope} {name} ({keyword} {alias}))").unwrap();
        here.items.push((alias.clone(), ty.clone()));
        Some(alias)
    }

    fn of_instance(&mut self, ty: &Type) -> Option<String> {
        let exports = self.scope().instances.iter().flat_map(|(name, exports)| {
            let of_type = exports.iter().enumerate().filter(|(_, of)| *of == ty);
            of_type.map(|(index, _)| (name.clone(), index))
        });
        let exports = exports.collect();
        let (instance, index) = self.any(exports)?;
        Some(self.alias(&instance, index, ty))
    }

    fn alias(&mut self, instance: &str, index: usize, ty: &Type) -> String {
        let alias = self.id("a");
        let keyword = keyword(ty);
        let scope = self.scope();
        writeln!(scope.text, "(alias export {instance} \"e{index}\" ({keyword} {alias}))").unwrap();
        scope.items.push((alias.clone(), ty.clone()));
        alias
    }

    fn any<T>(&mut self, mut known: Vec<T>) -> Option<T> {
        if known.is_empty() { None } else { Some(known.swap_remove(self.below(known.len()))) }
    }

    fn define(&mut self, ty: &Type) -> String {
        self.budget = self.budget.saturating_sub(1);
        let (name, text) = match ty {
            Type::Module => self.define_module(),
            // If the budget or the depth is used up, only the required items are defined.
            Type::Component(shape) if self.budget == 0 || self.scopes.len() >= DEPTH_MAX => self.define_plain(shape),
            Type::Component(shape) => self.define_component(shape),
        };
        let scope = self.scope();
        writeln!(scope.text, "{text}").unwrap();
        scope.items.push((name.clone(), ty.clone()));
        name
    }

    fn define_module(&mut self) -> (String, String) {
        let id = self.id("m");
        let memories = "(memory 1) ".repeat(self.below(3));
        let tables = "(table 1 funcref) ".repeat(self.below(3));
        (id.clone(), format!("(core module {id} {memories}{tables})"))
    }

    /// Defines a component that instantiates nothing. Returns its name and its text.
    fn define_plain(&mut self, shape: &Shape) -> (String, String) {
        let id = self.id("c");
        let mut text = format!("(component {id}\n");
        for (index, ty) in shape.imports.iter().enumerate() {
            let item = self.id("i");
            writeln!(text, "(import \"i{index}\" {})", declare(ty, &item)).unwrap();
        }
        for (index, ty) in shape.exports.iter().enumerate() {
            let (item, inner) = match ty {
                Type::Module => self.define_module(),
                Type::Component(shape) => self.define_plain(shape),
            };
            writeln!(text, "{inner}\n(export \"e{index}\" ({} {item}))", keyword(ty)).unwrap();
        }
        (id, text + ")")
    }
}

fn keyword(ty: &Type) -> &'static str {
    match ty {
        Type::Module => "core module",
        Type::Component(_) => "component",
    }
}

/// Returns the declaration of the type for an import or export with the given name.
fn declare(ty: &Type, name: &str) -> String {
    match ty {
        Type::Module => format!("(core module {name})"),
        Type::Component(shape) => {
            let imports = shape.imports.iter().enumerate();
            let imports = imports.map(|(index, ty)| format!("(import \"i{index}\" {})", declare(ty, "")));
            let exports = shape.exports.iter().enumerate();
            let exports = exports.map(|(index, ty)| format!("(export \"e{index}\" {})", declare(ty, "")));
            format!("(component {name} {})", imports.chain(exports).collect::<Vec<_>>().join(" "))
        }
    }
}
