//! Resources: which app and which process emitted the telemetry.

use isomer_telemetry::{SpanId, TraceId};

use crate::message::{KeyValue, Resource};
use crate::settings::OtlpSettings;

/// The app that emits telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceIdentity<'a> {
    /// The app's name: `service.name`.
    pub app: &'a str,
    /// The tenant's name, on a node: `service.namespace`.
    pub tenant: Option<&'a str>,
    /// The app's version, or its revision on a node: `service.version`. Metrics of a node's apps have none.
    pub version: Option<&'a str>,
}

/// The attributes that all resources of this process share.
#[derive(Debug, Clone)]
pub(crate) struct ResourceTemplate {
    process: Vec<(&'static str, String)>,
    user: Vec<(String, String)>,
    service_name: Option<String>,
}

impl ResourceTemplate {
    pub(crate) fn new(settings: &OtlpSettings) -> Self {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy().into_owned();
        // OpenTelemetry's conventions name some architectures differently.
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let process = vec![
            ("service.instance.id", random_uuid()),
            ("host.name", host),
            ("host.arch", architecture.to_owned()),
            ("os.type", std::env::consts::OS.to_owned()),
            ("process.pid", std::process::id().to_string()),
            ("telemetry.sdk.name", "isomer".to_owned()),
            ("telemetry.sdk.language", "rust".to_owned()),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        Self { process, user: settings.attributes.clone(), service_name: settings.service_name.clone() }
    }

    /// Returns the resource of an app.
    ///
    /// The user's attributes take precedence over those of the process. On a node, which serves the apps of several
    /// tenants, they do not replace the names of the app and the tenant.
    pub(crate) fn of(&self, identity: &ServiceIdentity<'_>) -> Resource {
        let mut attributes = Attributes::default();
        for (key, value) in &self.process {
            attributes.set(key, value);
        }
        let mut service = Attributes::default();
        service.set("service.name", identity.app);
        if let Some(tenant) = identity.tenant {
            service.set("service.namespace", tenant);
        }
        if let Some(version) = identity.version {
            service.set("service.version", version);
        }
        let mut user = Attributes::default();
        for (key, value) in &self.user {
            user.set(key, value);
        }
        let is_of_tenant = identity.tenant.is_some();
        if let Some(name) = self.service_name.as_ref().filter(|_| !is_of_tenant) {
            user.set("service.name", name);
        }
        let ordered = if is_of_tenant { [user, service] } else { [service, user] };
        for (key, value) in ordered.into_iter().flat_map(|attributes| attributes.0) {
            attributes.set(&key, &value);
        }
        Resource { attributes: attributes.0.into_iter().map(typed).collect() }
    }
}

/// Attributes in the order in which they were set first.
#[derive(Default)]
struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }
}

fn typed((key, value): (String, String)) -> KeyValue {
    match value.parse::<i64>() {
        Ok(number) if key == "process.pid" => KeyValue::new(key, number),
        _ => KeyValue::new(key, value),
    }
}

/// Returns a random UUID (version 4).
fn random_uuid() -> String {
    let random = TraceId::random().get();
    let raw = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{raw:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Returns the bytes of a trace's identity, as OTLP encodes it.
pub(crate) fn trace_bytes(id: TraceId) -> Vec<u8> {
    id.get().to_be_bytes().to_vec()
}

/// Returns the bytes of a span's identity, as OTLP encodes it.
pub(crate) fn span_bytes(id: SpanId) -> Vec<u8> {
    id.get().to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::any_value::Value;

    fn resource(identity: ServiceIdentity<'_>, attributes: &[(&str, &str)], name: Option<&str>) -> Resource {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let service_name = name.map(str::to_owned);
        ResourceTemplate::new(&OtlpSettings { attributes, service_name, ..OtlpSettings::default() }).of(&identity)
    }

    fn text(resource: &Resource, key: &str) -> Option<String> {
        let mut found = resource.attributes.iter().filter(|attribute| attribute.key == key);
        let value = found.next()?.value.clone()?.value?;
        assert!(found.next().is_none(), "{key} is set twice");
        match value {
            Value::Text(text) => Some(text),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn the_user_names_a_service_that_is_the_only_one_of_its_process() {
        let app = ServiceIdentity { app: "shop", tenant: None, version: Some("1.2.3") };
        let plain = resource(app, &[], None);
        assert_eq!(text(&plain, "service.name").as_deref(), Some("shop"));
        assert_eq!(text(&plain, "service.version").as_deref(), Some("1.2.3"));
        assert_eq!(text(&plain, "process.pid"), Some(format!("Int({})", std::process::id())));
        assert_eq!(text(&plain, "service.instance.id").map(|id| (id.len(), id.as_bytes()[14])), Some((36, b'4')));
        let set = [("service.name", "a"), ("service.version", "9"), ("host.name", "h"), ("team", "x")];
        let named = resource(app, &set, Some("b"));
        let shown = ["service.name", "service.version", "host.name", "team"].map(|key| text(&named, key).unwrap());
        assert_eq!(shown, ["b", "9", "h", "x"]);
    }

    #[test]
    fn the_names_of_apps_and_tenants_on_a_node_are_always_right() {
        let app = ServiceIdentity { app: "shop", tenant: Some("ann"), version: Some("f00d") };
        let set = [("service.name", "a"), ("service.namespace", "bob"), ("deployment.environment.name", "prod")];
        let resource = resource(app, &set, Some("b"));
        let keys = ["service.name", "service.namespace", "service.version", "deployment.environment.name"];
        assert_eq!(keys.map(|key| text(&resource, key).unwrap()), ["shop", "ann", "f00d", "prod"]);
    }
}
