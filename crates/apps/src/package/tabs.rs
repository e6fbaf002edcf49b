//! The stored form of a browser group in a package: what the front door needs to serve tabs.

use std::collections::BTreeMap;
use std::time::Duration;

use isomer_ids::ComponentName;
use isomer_manifest::{App, ComponentLimits, Exposure};
use isomer_plan::{InterfaceId, PlannedBrowser, TabFunction, TabSeam, names_function};
use isomer_runtime::code::Key;
use isomer_wire::FunctionKey;
use serde::{Deserialize, Serialize};

use super::PackageMismatch;

/// A browser group, and the functions that tabs may call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedTabs {
    /// The name of the group.
    pub(crate) group: String,
    pub(crate) components: Vec<ComponentName>,
    pub(crate) functions: Vec<PackedTabFunction>,
    /// The configuration of the components, which is public.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) config: BTreeMap<ComponentName, BTreeMap<String, String>>,
    /// The app's cookie that identifies visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cookie: Option<String>,
    /// The cache key of the files that browsers load.
    pub(crate) files: Key,
}

/// A function that tabs may call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedTabFunction {
    pub(crate) key: FunctionKey,
    pub(crate) component: ComponentName,
    /// The interface, with its version.
    pub(crate) interface: String,
    pub(crate) function: String,
    /// The name of the group whose process runs the component.
    pub(crate) process: String,
    /// The offset of the identity parameter in the image of the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity_offset: Option<u32>,
    pub(crate) allowed: Duration,
}

impl PackedTabs {
    /// Returns the stored form of a plan's browser group. `files` is the cache key of its files.
    pub(super) fn new(app: &App, browser: &PlannedBrowser, files: Key) -> Self {
        let mut functions: BTreeMap<FunctionKey, PackedTabFunction> = BTreeMap::new();
        for (seam, function) in browser.functions() {
            functions.entry(function.key).or_insert_with(|| packed(app, seam, function));
        }
        let PlannedBrowser { group, session_cookie, .. } = browser;
        Self {
            group: group.name.clone(),
            components: group.components.clone(),
            functions: functions.into_values().collect(),
            config: config(app, &group.components),
            cookie: session_cookie.clone(),
            files,
        }
    }

    /// Checks this part of a package from an untrusted process against the manifest: see
    /// [`Package::checked`](super::Package::checked).
    pub(super) fn checked(mut self, app: &App, shape: &str, files: Key) -> Result<Self, PackageMismatch> {
        let browser = app.shapes.get(shape).and_then(|shape| shape.browser.as_ref());
        let browser = browser.ok_or_else(|| PackageMismatch(format!("shape `{shape}` has no browser group")))?;
        if self.group != browser.name.value {
            return Err(PackageMismatch(format!("`{}` is not the browser group of the shape", self.group)));
        }
        let mut named: Vec<_> = browser.components.iter().map(|component| &component.value).collect();
        let mut packed: Vec<_> = self.components.iter().collect();
        named.sort();
        packed.sort();
        if named != packed {
            return Err(PackageMismatch(format!("browser group `{}` has other components", self.group)));
        }
        for function in &mut self.functions {
            let callee = app.components.get(&function.component);
            let callee = callee
                .ok_or_else(|| PackageMismatch(format!("the manifest has no component `{}`", function.component)))?;
            let has_identity = function.identity_offset.is_some();
            if !callee.exposed.iter().any(|entry| exposes(entry, function, has_identity)) {
                let PackedTabFunction { component, interface, function, .. } = function;
                return Err(PackageMismatch(format!(
                    "component `{component}` does not expose `{interface}.{function}`"
                )));
            }
            function.allowed = callee.limits.request_deadline();
        }
        self.config = config(app, &self.components);
        self.cookie = app.session.as_ref().map(|session| session.cookie.value.clone());
        self.files = files;
        Ok(self)
    }
}

/// Returns whether an entry of `exposed` contains a function. The plan reads entries in the same way. The version comes
/// from the untrusted process: it can only state another one than the entry, and then the function is not exposed.
fn exposes(entry: &Exposure, function: &PackedTabFunction, has_identity: bool) -> bool {
    let Ok(interface) = function.interface.parse::<InterfaceId>() else { return false };
    let is_same = names_function(&entry.functions.value, &interface, &function.function);
    is_same && entry.session.is_some() == has_identity
}

fn packed(app: &App, seam: &TabSeam, function: &TabFunction) -> PackedTabFunction {
    let limits = app.components.get(&seam.link.exporter).map(|component| &component.limits);
    PackedTabFunction {
        key: function.key,
        component: seam.link.exporter.clone(),
        interface: function.interface.to_string(),
        function: function.function.clone(),
        process: seam.process.clone(),
        identity_offset: function.identity.as_ref().map(|identity| identity.offset),
        allowed: limits.map(ComponentLimits::request_deadline).unwrap_or_default(),
    }
}

fn config(app: &App, components: &[ComponentName]) -> BTreeMap<ComponentName, BTreeMap<String, String>> {
    let of = |name: &ComponentName| Some((name.clone(), app.components.get(name)?.grants.config.clone()));
    components.iter().filter_map(of).filter(|(_, values)| !values.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use isomer_manifest::Spanned;

    use super::*;

    fn exposure(functions: &str, session: Option<&str>) -> Exposure {
        Exposure {
            functions: Spanned::unwritten(functions.to_owned()),
            session: session.map(|name| Spanned::unwritten(name.to_owned())),
        }
    }

    #[test]
    fn an_untrusted_package_publishes_only_what_the_manifest_exposes() {
        let function = |version: &str| PackedTabFunction {
            key: FunctionKey([1; 16]),
            component: "cart".parse().unwrap(),
            interface: format!("boutique:shop/cart{version}"),
            function: "get-cart".to_owned(),
            process: "monolith".to_owned(),
            identity_offset: Some(0),
            allowed: Duration::ZERO,
        };
        for (written, session, expected) in [
            ("boutique:shop/cart", Some("id"), true),
            ("boutique:shop/cart@0.1.0", Some("id"), true),
            ("boutique:shop/cart.get-cart", Some("id"), true),
            ("boutique:shop/cart@0.1.0.get-cart", Some("id"), true),
            ("boutique:shop/cart", None, false),
            ("boutique:shop/cart.add-item", Some("id"), false),
            ("boutique:shop/cart@0.1.0.add-item", Some("id"), false),
            ("boutique:shop/cart@0.1.1", Some("id"), false),
            ("boutique:shop/carts", Some("id"), false),
            ("boutique:shop/car", Some("id"), false),
        ] {
            let exposure = exposure(written, session);
            assert_eq!(exposes(&exposure, &function("@0.1.0"), true), expected, "{written} {session:?}");
        }
        for (written, expected) in [
            ("boutique:shop/cart", true),
            ("boutique:shop/cart.get-cart", true),
            ("boutique:shop/cart@0.1.0-rc.1", true),
            ("boutique:shop/cart@0.1.0-rc.1.get-cart", true),
            ("boutique:shop/cart@0.1.0-rc.1.add-item", false),
            ("boutique:shop/cart@0.1.0", false),
        ] {
            assert_eq!(exposes(&exposure(written, Some("id")), &function("@0.1.0-rc.1"), true), expected, "{written}");
        }
    }
}
