//! The digest of a plan. Processes may call each other as parts of one app only if their digests are equal.
//!
//! A call carries the digest of the caller, and a callee with another digest rejects the call. So two processes that
//! call each other agree on the components, on the process in which each component runs, on how calls cross every seam,
//! and on the grants of each component. This file lists the hashed values explicitly. Otherwise, a change of a message,
//! a hint or a field's name would change the digest, and two builds of the platform would reject each other's calls.

use std::collections::BTreeMap;

use isomer_ids::{ComponentName, PlanDigest};
use isomer_manifest::{App, Grants};
use isomer_plan::{
    HostBinding, Http, IdentityParameter, ImportBinding, InterfaceId, Plan, PlannedBrowser, PlannedGroup,
    PlannedHandler, PlannedSkeleton, PlannedStub, ResolvedImport, Seam, SeamMode, SkeletonFunction, StubFunction,
    TabFunction, TabSeam, Transport,
};
use isomer_wire::FunctionKey;
use sha2::{Digest as _, Sha256};

/// The version of the hashed values. Increment it when other values are hashed, or when their encoding changes.
const FORMAT: u64 = 1;

/// Returns a hash of the components' bytes (which are passed as `digests`) and of the plan's decisions.
pub(crate) fn plan_digest(app: &App, plan: &Plan, digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>) -> PlanDigest {
    let mut hash = Hash(Sha256::new());
    hash.number(FORMAT);
    hash.text(&plan.app);
    hash.text(&plan.version);
    hash.text(&plan.shape);
    hash.each(&plan.groups, Hash::group);
    hash.each(&plan.seams, Hash::seam);
    hash.each(&app.components, |hash, (name, component)| {
        hash.text(name.as_str());
        hash.grants(&component.grants);
    });
    hash.each(digests, |hash, (name, digest)| {
        hash.text(name.as_str());
        hash.bytes(digest.as_ref());
    });
    // The values of a browser group are hashed only if there is one. They are last, so they cannot be mistaken for
    // other values.
    if let Some(browser) = &plan.browser {
        hash.browser(browser);
    }
    hash.finish()
}

/// A hasher for lists of values. The length of each text and list is hashed before its content, so different lists
/// never give the same bytes.
struct Hash(Sha256);

impl Hash {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn shown(&mut self, value: &impl ToString) {
        self.text(&value.to_string());
    }

    fn each<I: IntoIterator<IntoIter: ExactSizeIterator>>(
        &mut self,
        items: I,
        mut hash: impl FnMut(&mut Self, I::Item),
    ) {
        let items = items.into_iter();
        self.number(items.len() as u64);
        items.for_each(|item| hash(self, item));
    }

    fn group(&mut self, group: &PlannedGroup) {
        let PlannedGroup { name, isolated_from, components, links, imports, handlers, stubs, skeletons } = group;
        self.text(name);
        self.each(isolated_from, |hash, from| hash.text(from));
        self.each(components, |hash, name| hash.text(name.as_str()));
        self.each(links, Self::link);
        self.each(imports, Self::import);
        self.each(handlers, Self::handler);
        self.each(stubs, Self::stub);
        self.each(skeletons, Self::skeleton);
    }

    fn interface(&mut self, interface: &InterfaceId) {
        self.shown(interface);
    }

    fn link(&mut self, link: &ResolvedImport) {
        let ResolvedImport { importer, import, exporter, export } = link;
        self.text(importer.as_str());
        self.interface(import);
        self.text(exporter.as_str());
        self.interface(export);
    }

    fn import(&mut self, import: &HostBinding) {
        let HostBinding { component, interface, binding } = import;
        self.text(component.as_str());
        self.interface(interface);
        match binding {
            ImportBinding::Shared => self.number(0),
            ImportBinding::Labelled { label } => {
                self.number(1);
                self.text(label);
            }
            ImportBinding::Family => self.number(2),
        }
    }

    fn handler(&mut self, handler: &PlannedHandler) {
        let PlannedHandler { component, interface, http, routes } = handler;
        self.text(component.as_str());
        self.interface(interface);
        self.number(match http {
            Http::P2 => 2,
            Http::P3 => 3,
        });
        self.each(routes, Self::shown);
    }

    fn stub(&mut self, stub: &PlannedStub) {
        let PlannedStub { component, functions } = stub;
        self.text(component.as_str());
        self.each(functions, |hash, function| {
            let StubFunction { interface, function, is_async, catches, callee, key, mode, idempotent } = function;
            hash.function(interface, function, *is_async, key);
            hash.number(u64::from(*catches));
            hash.text(callee.as_str());
            hash.mode(*mode);
            hash.number(u64::from(*idempotent));
        });
    }

    fn skeleton(&mut self, skeleton: &PlannedSkeleton) {
        let PlannedSkeleton { component, functions } = skeleton;
        self.text(component.as_str());
        self.each(functions, |hash, function| {
            let SkeletonFunction { interface, function, is_async, key } = function;
            hash.function(interface, function, *is_async, key);
        });
    }

    fn function(&mut self, interface: &InterfaceId, function: &str, is_async: bool, key: &FunctionKey) {
        self.interface(interface);
        self.text(function);
        self.number(u64::from(is_async));
        self.bytes(&key.0);
    }

    fn mode(&mut self, mode: SeamMode) {
        self.number(match mode {
            SeamMode::Fused => 0,
            SeamMode::Isolated => 1,
            SeamMode::Remote => 2,
        });
    }

    /// Hashes a seam without `reason`, which is prose, and without `class`, which depends only on the components'
    /// types.
    fn seam(&mut self, seam: &Seam) {
        let Seam { link, mode, reason: _, class: _, functions } = seam;
        self.link(link);
        self.mode(*mode);
        self.each(functions, |hash, function| hash.text(function));
    }

    fn browser(&mut self, browser: &PlannedBrowser) {
        let PlannedBrowser { group, seams, config, session_cookie } = browser;
        self.group(group);
        self.each(seams, Self::tab_seam);
        self.each(config, |hash, (component, names)| {
            hash.text(component.as_str());
            hash.each(names, |hash, name| hash.text(name));
        });
        self.each(session_cookie, |hash, cookie| hash.text(cookie));
    }

    /// Hashes a tab seam without `reason`, which is prose.
    fn tab_seam(&mut self, seam: &TabSeam) {
        let TabSeam { link, process, transport, reason: _, functions } = seam;
        self.link(link);
        self.text(process);
        self.number(match transport {
            Transport::Http => 0,
        });
        self.each(functions, |hash, function| {
            let TabFunction { interface, function, key, is_async, catches, idempotent, identity } = function;
            hash.function(interface, function, *is_async, key);
            hash.number(u64::from(*catches));
            hash.number(u64::from(*idempotent));
            hash.each(identity, |hash, IdentityParameter { name, offset }| {
                hash.text(name);
                hash.number(u64::from(*offset));
            });
        });
    }

    /// Hashes the names in the grants. Config values and paths on the machine are left out, because they may differ
    /// between processes of one app.
    fn grants(&mut self, grants: &Grants) {
        let Grants { kv, sql, http, config, secrets, dirs, at: _ } = grants;
        self.each(kv, |hash, store| hash.text(store.value.as_str()));
        self.each(sql, |hash, store| hash.text(store.value.as_str()));
        self.each(http, |hash, host| hash.shown(&host.value));
        self.each(config.keys(), |hash, key| hash.text(key));
        self.each(secrets, |hash, secret| hash.text(&secret.value));
        self.each(dirs, |hash, dir| {
            hash.text(&dir.value.guest);
            hash.number(u64::from(dir.value.write));
        });
    }

    fn finish(self) -> PlanDigest {
        let hash: [u8; 32] = self.0.finalize().into();
        let mut digest = PlanDigest::default();
        digest.0.copy_from_slice(&hash[..16]);
        digest
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use isomer_diagnostics::Diagnostic;
    use isomer_manifest::Route;
    use isomer_plan::{ComponentAccess, MissingGrant, ValueClass};

    use super::*;

    fn name(name: &str) -> ComponentName {
        ComponentName::new(name).expect("a name")
    }

    fn interface(name: &str) -> InterfaceId {
        name.parse().expect("an interface")
    }

    fn link() -> ResolvedImport {
        let cart = interface("shop:cart/cart@0.1.0");
        ResolvedImport { importer: name("shop"), import: cart.clone(), exporter: name("cart"), export: cart }
    }

    fn group() -> PlannedGroup {
        let (cart, key) = (interface("shop:cart/cart@0.1.0"), FunctionKey([1; 16]));
        let called = |callee, mode| StubFunction {
            interface: cart.clone(),
            function: "add".to_owned(),
            is_async: false,
            catches: false,
            callee,
            key,
            mode,
            idempotent: false,
        };
        let answered = SkeletonFunction { interface: cart.clone(), function: "add".to_owned(), is_async: false, key };
        let handler = interface("wasi:http/handler@0.3.0");
        let routes = vec![Route::Prefix("/shop".to_owned())];
        PlannedGroup {
            name: "front".to_owned(),
            isolated_from: None,
            components: vec![name("shop"), name("cart")],
            links: vec![link()],
            imports: vec![HostBinding {
                component: name("shop"),
                interface: interface("wasi:keyvalue/store@0.2.0-draft"),
                binding: ImportBinding::Labelled { label: "shop-store".to_owned() },
            }],
            handlers: vec![PlannedHandler { component: name("shop"), interface: handler, http: Http::P3, routes }],
            stubs: vec![PlannedStub {
                component: name("shop"),
                functions: vec![called(name("cart"), SeamMode::Remote)],
            }],
            skeletons: vec![PlannedSkeleton { component: name("cart"), functions: vec![answered] }],
        }
    }

    fn decided() -> (App, Plan) {
        let missing = MissingGrant {
            interface: interface("wasi:keyvalue/store@0.2.0-draft"),
            consequence: "every open is denied".to_owned(),
            grant: "grants.kv = [\"…\"]".to_owned(),
        };
        let plan = Plan {
            app: "shop".to_owned(),
            version: "1.0.0".to_owned(),
            shape: "monolith".to_owned(),
            groups: vec![group()],
            browser: None,
            reuse: BTreeMap::new(),
            seams: vec![Seam {
                link: link(),
                mode: SeamMode::Fused,
                reason: "same group".to_owned(),
                class: ValueClass::Plain,
                functions: vec!["add".to_owned()],
            }],
            access: vec![ComponentAccess { component: name("shop"), granted: vec![], without_grant: vec![missing] }],
            notes: vec!["a note".to_owned()],
            warnings: vec![Diagnostic::error("a warning")],
        };
        (App::single(Path::new("shop.wasm"), Grants::default()), plan)
    }

    fn browser() -> PlannedBrowser {
        let function = TabFunction {
            interface: interface("shop:cart/cart@0.1.0"),
            function: "add".to_owned(),
            key: FunctionKey([1; 16]),
            is_async: true,
            catches: false,
            idempotent: false,
            identity: Some(IdentityParameter { name: "session".to_owned(), offset: 0 }),
        };
        PlannedBrowser {
            group: group(),
            seams: vec![TabSeam {
                link: link(),
                process: "front".to_owned(),
                transport: Transport::Http,
                reason: "only the tab calls".to_owned(),
                functions: vec![function],
            }],
            config: BTreeMap::from([(name("shop"), vec!["CURRENCY".to_owned()])]),
            session_cookie: Some("shop-session".to_owned()),
        }
    }

    /// Returns the digest of a plan with a browser group after a change of this group.
    fn digest_after_browser(change: impl FnOnce(&mut PlannedBrowser)) -> PlanDigest {
        digest_after(|_, plan| change(plan.browser.insert(browser())))
    }

    fn digest_after(change: impl FnOnce(&mut App, &mut Plan)) -> PlanDigest {
        let (mut app, mut plan) = decided();
        change(&mut app, &mut plan);
        let shop = name("shop");
        plan_digest(&app, &plan, &BTreeMap::from([(&shop, [7_u8; 32])]))
    }

    fn grants(app: &mut App) -> &mut Grants {
        &mut app.components.values_mut().next().expect("the app has a component").grants
    }

    #[test]
    fn texts_for_readers_do_not_change_the_digest() {
        let before = digest_after(|_, _| {});
        let reworded = digest_after(|_, plan| {
            plan.seams[0].reason = "both are in one group".to_owned();
            plan.access[0].without_grant[0].consequence = "each call to open a store fails".to_owned();
            plan.access[0].without_grant[0].grant = "another hint".to_owned();
            plan.access[0].granted = vec!["key-value stores: none".to_owned()];
            plan.notes = vec![];
            plan.warnings = vec![];
        });
        assert_eq!(before, reworded);
    }

    #[test]
    fn every_decision_changes_the_digest() {
        type Change = fn(&mut App, &mut Plan);
        let changes: &[Change] = &[
            |_, _| {},
            |_, plan| plan.app = "stall".to_owned(),
            |_, plan| plan.version = "1.0.1".to_owned(),
            |_, plan| plan.shape = "split".to_owned(),
            |_, plan| plan.groups[0].name = "back".to_owned(),
            |_, plan| plan.groups[0].isolated_from = Some("front".to_owned()),
            |_, plan| plan.groups[0].components.reverse(),
            |_, plan| plan.groups[0].links.clear(),
            |_, plan| plan.groups[0].imports[0].binding = ImportBinding::Family,
            |_, plan| plan.groups[0].imports[0].binding = ImportBinding::Shared,
            |_, plan| plan.groups[0].handlers[0].http = Http::P2,
            |_, plan| plan.groups[0].handlers[0].routes.clear(),
            |_, plan| plan.groups[0].stubs[0].functions[0].mode = SeamMode::Isolated,
            |_, plan| plan.groups[0].stubs[0].functions[0].idempotent = true,
            |_, plan| plan.groups[0].stubs[0].functions[0].catches = true,
            |_, plan| plan.groups[0].stubs[0].functions[0].key = FunctionKey([2; 16]),
            |_, plan| plan.groups[0].skeletons[0].functions[0].is_async = true,
            |_, plan| plan.groups[0].skeletons[0].functions[0].key = FunctionKey([2; 16]),
            |_, plan| plan.groups.clear(),
            |_, plan| plan.seams[0].mode = SeamMode::Remote,
            |_, plan| plan.seams[0].link.exporter = "basket".parse().expect("a name"),
            |_, plan| plan.seams[0].functions.push("remove".to_owned()),
            |_, plan| plan.seams.clear(),
            |app, _| grants(app).config = BTreeMap::from([("greeting".to_owned(), "hello".to_owned())]),
            |app, _| app.components.clear(),
        ];
        let identities = changes.iter().map(|change| digest_after(change)).collect::<Vec<_>>();
        for (at, one) in identities.iter().enumerate() {
            let same = identities[at + 1..].iter().position(|other| other == one);
            assert_eq!(same, None, "change {at} has the same digest as a later change");
        }
    }

    #[test]
    fn every_decision_about_a_browser_group_changes_the_digest() {
        type Change = fn(&mut PlannedBrowser);
        let changes: &[Change] = &[
            |_| {},
            |browser| browser.group.name = "tab".to_owned(),
            |browser| browser.group.stubs.clear(),
            |browser| browser.seams[0].process = "back".to_owned(),
            |browser| browser.seams[0].link.exporter = name("basket"),
            |browser| browser.seams[0].functions[0].function = "remove".to_owned(),
            |browser| browser.seams[0].functions[0].key = FunctionKey([2; 16]),
            |browser| browser.seams[0].functions[0].is_async = false,
            |browser| browser.seams[0].functions[0].catches = true,
            |browser| browser.seams[0].functions[0].idempotent = true,
            |browser| browser.seams[0].functions[0].identity = None,
            |browser| {
                browser.seams[0].functions[0].identity =
                    Some(IdentityParameter { name: "session".to_owned(), offset: 8 });
            },
            |browser| {
                browser.seams[0].functions[0].identity = Some(IdentityParameter { name: "user".to_owned(), offset: 0 });
            },
            |browser| browser.seams[0].functions.clear(),
            |browser| browser.seams.clear(),
            |browser| browser.config.clear(),
            |browser| browser.session_cookie = None,
            |browser| browser.session_cookie = Some("session".to_owned()),
        ];
        let mut digests: Vec<_> = changes.iter().map(|change| digest_after_browser(change)).collect();
        digests.push(digest_after(|_, _| {}));
        for (at, one) in digests.iter().enumerate() {
            let same = digests[at + 1..].iter().position(|other| other == one);
            assert_eq!(same, None, "change {at} has the same digest as a later change");
        }
        let reworded = digest_after_browser(|browser| browser.seams[0].reason = "another reason".to_owned());
        assert_eq!(digests[0], reworded);
    }

    #[test]
    fn the_bytes_of_a_component_change_the_digest() {
        let (app, plan) = decided();
        let (shop, cart) = (name("shop"), name("cart"));
        let of = |digests: &BTreeMap<&ComponentName, [u8; 32]>| plan_digest(&app, &plan, digests);
        let one = of(&BTreeMap::from([(&shop, [7; 32])]));
        assert_ne!(one, of(&BTreeMap::from([(&shop, [8; 32])])));
        assert_ne!(one, of(&BTreeMap::from([(&cart, [7; 32])])));
        assert_ne!(one, of(&BTreeMap::from([(&shop, [7; 32]), (&cart, [7; 32])])));
    }

    /// Two builds of the platform accept each other's calls only if they compute the same digest. Change the expected
    /// value only together with [`FORMAT`].
    #[test]
    fn the_digest_is_the_same_in_every_build() {
        let digest = digest_after(|_, _| {});
        assert_eq!(digest.to_string(), "9c3fd7c07ed66518c3b86e114de83d5c");
    }
}
