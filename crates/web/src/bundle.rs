//! Joins the modules of the service worker into one file.
//!
//! Browsers take a few milliseconds to load each module when a worker starts, which delays the first page. Each module
//! becomes a function that is called at once and returns what the module exports, so the names of different modules
//! do not collide. Only the forms of `import` and `export` that the worker uses are supported; every other form is an
//! error.

use std::collections::BTreeMap;

/// The error of modules that cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A module does not exist.
    #[error("the module `{name}` does not exist")]
    Missing {
        /// The name of the module.
        name: String,
    },
    /// A module imports itself, or a module that imports it.
    #[error("the module `{name}` is part of an import cycle")]
    Cycle {
        /// The name of the module.
        name: String,
    },
    /// A statement has a form that is not supported.
    #[error("the module `{name}` has the unsupported statement `{line}`")]
    Unsupported {
        /// The name of the module.
        name: String,
        /// The line.
        line: String,
    },
}

/// Returns one module that does what the module `entry` does. The lines of `modules` must not be indented.
pub(crate) fn bundle(entry: &str, modules: &BTreeMap<&str, String>) -> Result<String, BundleError> {
    let mut bundle = Bundle { modules, states: BTreeMap::new(), output: String::new() };
    bundle.add(entry)?;
    Ok(bundle.output)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Added,
}

struct Bundle<'a> {
    modules: &'a BTreeMap<&'a str, String>,
    states: BTreeMap<&'a str, State>,
    output: String,
}

impl Bundle<'_> {
    /// Adds a module after the modules that it imports.
    fn add(&mut self, name: &str) -> Result<(), BundleError> {
        let missing = || BundleError::Missing { name: name.to_owned() };
        let (&name, source) = self.modules.get_key_value(name).ok_or_else(missing)?;
        match self.states.insert(name, State::Open) {
            Some(State::Open) => return Err(BundleError::Cycle { name: name.to_owned() }),
            Some(State::Added) => {
                self.states.insert(name, State::Added);
                return Ok(());
            }
            None => {}
        }
        let (mut body, mut exports) = (String::with_capacity(source.len()), Vec::new());
        for line in source.lines() {
            let unsupported = || BundleError::Unsupported { name: name.to_owned(), line: line.to_owned() };
            if line.starts_with("import ") {
                let (names, imported) = import(line).ok_or_else(unsupported)?;
                self.add(imported)?;
                if let Some(names) = names {
                    body += &format!("const {{{}}} = {};\n", names.replace(" as ", ": "), variable(imported));
                }
            } else if let Some(declaration) = line.strip_prefix("export ") {
                exports.push(declared(declaration).ok_or_else(unsupported)?);
                body += declaration;
                body.push('\n');
            } else {
                body += line;
                body.push('\n');
            }
        }
        self.output +=
            &format!("const {} = (() => {{\n{body}return {{ {} }};\n}})();\n", variable(name), exports.join(", "));
        self.states.insert(name, State::Added);
        Ok(())
    }
}

/// Returns the variable with the exports of a module.
fn variable(module: &str) -> String {
    format!("_{}", module.replace(['.', '-'], "_"))
}

/// Returns the imported names as they are written between the braces, if there are any, and the name of the module.
fn import(line: &str) -> Option<(Option<&str>, &str)> {
    let rest = line.strip_prefix("import ")?;
    let (names, path) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} from ").map(|(names, path)| (Some(names), path))?,
        None => (None, rest),
    };
    let name = path.strip_prefix("\"./")?.strip_suffix("\";")?;
    Some((names, name))
}

/// Returns the name that a declaration declares.
fn declared(declaration: &str) -> Option<&str> {
    let starts = ["const ", "class ", "function ", "async function ", "async function* "];
    let rest = starts.iter().find_map(|start| declaration.strip_prefix(start))?;
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules<'a>(sources: &[(&'a str, &str)]) -> BTreeMap<&'a str, String> {
        sources.iter().map(|(name, source)| (*name, (*source).to_owned())).collect()
    }

    #[test]
    fn modules_are_joined_after_their_imports() {
        let modules = modules(&[
            ("a.js", "import { one, two as deux } from \"./b.js\";\nimport \"./c.js\";\nrun(one, deux);\n"),
            ("b.js", "import { x } from \"./c.js\";\nexport const one = x;\nexport async function* two() {}\n"),
            ("c.js", "export class x {}\nexport const y = {\n};\nexports = 1;\n"),
        ]);
        assert_eq!(
            bundle("a.js", &modules).expect("the modules can be joined"),
            "const _c_js = (() => {\nclass x {}\nconst y = {\n};\nexports = 1;\nreturn { x, y };\n})();\n\
             const _b_js = (() => {\nconst { x } = _c_js;\nconst one = x;\nasync function* two() {}\nreturn { one, two };\n})();\n\
             const _a_js = (() => {\nconst { one, two: deux } = _b_js;\nrun(one, deux);\nreturn {  };\n})();\n"
        );
    }

    #[test]
    fn other_forms_are_errors() {
        for line in ["import x from \"./b.js\";", "import { a } from \"b\";", "export default 1;", "export { a };"] {
            let error = bundle("a.js", &modules(&[("a.js", line), ("b.js", "")]));
            assert_eq!(error, Err(BundleError::Unsupported { name: "a.js".to_owned(), line: line.to_owned() }));
        }
        let error = bundle("a.js", &modules(&[("a.js", "import \"./b.js\";")]));
        assert_eq!(error, Err(BundleError::Missing { name: "b.js".to_owned() }));
        let error = bundle("a.js", &modules(&[("a.js", "import \"./b.js\";"), ("b.js", "import \"./a.js\";")]));
        assert_eq!(error, Err(BundleError::Cycle { name: "a.js".to_owned() }));
    }
}
