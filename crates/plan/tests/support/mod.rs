//! Creates apps from the text of a manifest, and component types from a short notation.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use isomer_diagnostics::{Diagnostic, Renderer, SourceFile};
use isomer_ids::ComponentName;
use isomer_manifest::App;
use isomer_plan::{
    ComponentType, FunctionType, InterfaceId, InterfaceType, Parameter, Plan, TypeHash, ValueClass, plan,
};

/// Parses `namespace:package/interface@version { name: signature; … }`. Without braces, the interface has one function.
pub(crate) fn interface(text: &str) -> InterfaceType {
    let (id, functions) = match text.split_once('{') {
        Some((id, rest)) => (id.trim(), rest.trim_end_matches('}').to_owned()),
        None => (text.trim(), "call: func()".to_owned()),
    };
    let functions = functions.split(';').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let (name, signature) = part.split_once(':').expect("a function has a signature");
        let signature = signature.trim().to_owned();
        let mut hasher = DefaultHasher::new();
        signature.hash(&mut hasher);
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&hasher.finish().to_le_bytes());
        let is_async = signature.starts_with("async");
        (
            name.trim().to_owned(),
            FunctionType {
                is_async,
                hash: TypeHash(hash),
                catches: false,
                parameters: parameters(&signature),
                signature,
            },
        )
    });
    InterfaceType {
        id: id.parse().expect("the interface's name is right"),
        functions: functions.collect(),
        types: BTreeMap::new(),
        class: ValueClass::Plain,
        resources: BTreeSet::new(),
        carries: BTreeSet::new(),
        uses: BTreeSet::new(),
    }
}

/// Returns the parameters in a signature. The first text is at the offset 0, the next one at the offset 8.
fn parameters(signature: &str) -> Vec<Parameter> {
    let written = signature.split_once('(').map_or("", |(_, rest)| rest.split(')').next().unwrap_or_default());
    let mut offsets = (0..).step_by(8);
    let parameter = |text: &str| {
        let (name, ty) = text.split_once(':').expect("a parameter has a type");
        let text_offset = if ty.trim() == "string" { offsets.next() } else { None };
        Parameter { name: name.trim().to_owned(), text_offset }
    };
    written.split(',').map(str::trim).filter(|text| !text.is_empty()).map(parameter).collect()
}

/// Returns the type of a component with these imports and exports.
pub(crate) fn component(imports: &[&str], exports: &[&str]) -> ComponentType {
    let all = |texts: &[&str]| -> BTreeMap<InterfaceId, InterfaceType> {
        texts.iter().map(|text| interface(text)).map(|ty| (ty.id.clone(), ty)).collect()
    };
    ComponentType { imports: all(imports), exports: all(exports), world_imports: vec![] }
}

pub(crate) fn types(parts: &[(&str, ComponentType)]) -> BTreeMap<ComponentName, ComponentType> {
    parts.iter().map(|(part, ty)| (name(part), ty.clone())).collect()
}

pub(crate) fn name(name: &str) -> ComponentName {
    ComponentName::new(name).expect("the name is right")
}

/// An app, the types of its components, and the text of its manifest, which is needed to print errors.
pub(crate) struct Planned {
    pub(crate) source: SourceFile,
    pub(crate) app: App,
    pub(crate) types: BTreeMap<ComponentName, ComponentType>,
}

impl Planned {
    pub(crate) fn new(manifest: &str, parts: &[(&str, ComponentType)]) -> Self {
        let app = if manifest.contains("[app]") { "" } else { "\n[app]\nname = \"test\"\nversion = \"0.1.0\"\n" };
        let source = SourceFile::new("isomer.toml", format!("{manifest}{app}"));
        let parsed = isomer_manifest::parse(&source).unwrap_or_else(|found| panic!("{}", render(&found, &source)));
        Planned { source, app: parsed.app, types: types(parts) }
    }

    pub(crate) fn plan(&self, shape: &str) -> Plan {
        plan(&self.app, &self.types, shape).unwrap_or_else(|found| panic!("{}", self.render(&found)))
    }

    /// Plans the app in the shape, and returns the errors as users see them.
    pub(crate) fn errors(&self, shape: &str) -> String {
        match plan(&self.app, &self.types, shape) {
            Ok(plan) => panic!("it should have been refused:\n{}", plan.explain()),
            Err(found) => self.render(&found),
        }
    }

    pub(crate) fn render(&self, found: &[Diagnostic]) -> String {
        render(found, &self.source)
    }
}

fn render(found: &[Diagnostic], source: &SourceFile) -> String {
    let found: Vec<_> = found.iter().map(|diagnostic| diagnostic.clone().in_source(source)).collect();
    Renderer::plain().diagnostics(&found)
}
