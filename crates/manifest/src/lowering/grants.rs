//! Lowers grants: stores, hosts, config, secrets, directories.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use isomer_diagnostics::Diagnostic;
use isomer_ids::{StoreName, is_environment_name};

use super::Lowering;
use crate::model::{DirGrant, Grants, OutboundHost};
use crate::raw::{DIRS_MAX, RawDirectory, RawGrants, RawHost, RawHostTable};
use crate::spanned::Spanned;
use crate::texts::{EnvironmentText, NameText};

impl Lowering<'_> {
    pub(super) fn grants(&mut self, component: &str, raw: RawGrants, at: Spanned<()>) -> Grants {
        let secrets = raw.secrets.into_iter().map(|name| name.map(|text| text.0)).collect();
        Grants {
            kv: self.stores(raw.kv),
            sql: self.stores(raw.sql),
            http: self.hosts(raw.http),
            config: self.config(component, raw.config),
            secrets: self.once("secret", secrets),
            dirs: self.directories(component, raw.dirs),
            at,
        }
    }

    fn stores(&mut self, raw: Vec<Spanned<NameText>>) -> Vec<Spanned<StoreName>> {
        let mut stores = vec![];
        for name in raw {
            let checked = StoreName::new(&name.value.0);
            if let Some(store) = self.valid(checked, "bad-name", name.span) {
                stores.push(Spanned::new(store, name.span));
            }
        }
        self.once("store", stores)
    }

    fn hosts(&mut self, raw: Vec<Spanned<RawHost>>) -> Vec<Spanned<OutboundHost>> {
        let mut hosts = vec![];
        for host in raw {
            let (text, private, authority) = match host.value {
                RawHost::Text(text) => (text, false, None),
                RawHost::Table(RawHostTable { host: Some(text), private, authority }) => (text, private, authority),
                // The structural check has reported the missing `host`.
                RawHost::Table(RawHostTable { host: None, .. }) => continue,
            };
            if let Some(parsed) = self.valid(text.0.parse::<OutboundHost>(), "bad-host", host.span) {
                let authority = authority.map(|path| PathBuf::from(path.0));
                hosts.push(Spanned::new(OutboundHost { private, authority, ..parsed }, host.span));
            }
        }
        self.once("host", hosts)
    }

    fn config(
        &mut self,
        component: &str,
        raw: BTreeMap<Spanned<EnvironmentText>, Spanned<String>>,
    ) -> BTreeMap<String, String> {
        let mut config = BTreeMap::new();
        for (key, value) in raw {
            let name = key.value.0;
            if !is_environment_name(&name) {
                let legal: String =
                    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
                let legal = if is_environment_name(&legal) { legal } else { format!("_{legal}") };
                self.report(
                    Diagnostic::error(format!(
                        "config key `{name}` of component `{component}` cannot name an environment variable"
                    ))
                    .code("bad-config-key")
                    .at(key.span, "letters, digits and `_`, and no digit first")
                    .hint(if name.is_empty() {
                        "give the key a name, or remove the key".to_owned()
                    } else {
                        format!("write `{legal}`")
                    }),
                );
                continue;
            }
            if value.value.contains('\0') {
                self.report(
                    Diagnostic::error(format!("the value of config key `{name}` contains a NUL character"))
                        .code("bad-config-value")
                        .at(value.span, "an environment variable cannot contain it")
                        .hint("remove `\\u0000`"),
                );
                continue;
            }
            config.insert(name, value.value);
        }
        config
    }

    fn directories(&mut self, component: &str, raw: Vec<Spanned<RawDirectory>>) -> Vec<Spanned<DirGrant>> {
        let mut directories: Vec<Spanned<DirGrant>> = vec![];
        if let Some(first) = raw.get(DIRS_MAX) {
            let found = raw.len();
            self.report(
                Diagnostic::error(format!("component `{component}` is granted {found} directories"))
                    .code("too-many-directories")
                    .at(first.span, format!("at most {DIRS_MAX} are allowed"))
                    .hint("grant a common parent directory instead"),
            );
        }
        for directory in raw.into_iter().take(DIRS_MAX) {
            // The structural check has reported the missing keys.
            let (Some(host), Some(guest)) = (directory.value.host, directory.value.guest) else { continue };
            let span = if host.value.0.is_empty() { host.span } else { guest.span };
            let grant = DirGrant::new(host.value.0, &guest.value.0, directory.value.write);
            let Some(grant) = self.valid(grant, "bad-directory", span) else { continue };
            if let Some(first) = directories.iter().find(|other| other.value.guest == grant.guest) {
                self.report(
                    Diagnostic::error(format!("component `{component}` has two directories at `{}`", grant.guest))
                        .code("colliding-directories")
                        .at(directory.span, "again")
                        .related(first.span, "first here")
                        .hint("give one of them another `guest` path"),
                );
                continue;
            }
            directories.push(Spanned::new(grant, directory.span));
        }
        directories
    }

    /// Returns the list without duplicates. Reports a warning for each duplicate.
    fn once<T: PartialEq + Display>(&mut self, what: &str, all: Vec<Spanned<T>>) -> Vec<Spanned<T>> {
        let mut once: Vec<Spanned<T>> = vec![];
        for one in all {
            match once.iter().find(|other| **other == one) {
                Some(first) => {
                    let diagnostic = Diagnostic::warning(format!("the {what} `{one}` is granted twice"))
                        .code("granted-twice")
                        .at(one.span, "again")
                        .related(first.span, "first here")
                        .hint("remove one of them");
                    self.report(diagnostic);
                }
                None => once.push(one),
            }
        }
        once
    }
}
