//! The table `[telemetry.otlp]`: the collector to which a node sends the telemetry of its apps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::is_environment_name;

use super::raw::{RawHeader, RawOtlp};
use crate::bounds::Findings;
use crate::model::SecretSource;
use crate::spanned::Spanned;

/// The names of the signals.
const SIGNALS: [&str; 3] = ["traces", "logs", "metrics"];

/// A collector, and what is sent to it.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpExport {
    /// The base URL of the collector, which is not checked.
    pub endpoint: Spanned<String>,
    /// The names of the signals that are sent: `traces`, `logs`, `metrics`. `None` means all.
    pub signals: Option<Vec<Spanned<String>>>,
    /// The header fields of each request, with the sources of their values.
    pub headers: BTreeMap<Spanned<String>, SecretSource>,
    /// The path of a PEM file, as written, with the certificate authorities that sign the collector's certificate.
    pub authority: Option<Spanned<PathBuf>>,
}

/// Converts the table, and reports invalid values. Returns `None` if the URL is missing, which the structural check has
/// reported.
pub(super) fn read(raw: RawOtlp, found: &mut Findings) -> Option<OtlpExport> {
    let signals = raw.signals.map(|signals| signals.into_iter().map(|signal| signal.map(|text| text.0)).collect());
    for signal in signals.iter().flatten() {
        check_signal(signal, found);
    }
    let headers = raw.headers.into_iter().filter_map(|(name, source)| {
        let name = name.map(|text| text.0);
        let source = header(&name, source, found)?;
        Some((name, source))
    });
    let headers = headers.collect();
    Some(OtlpExport {
        endpoint: raw.endpoint?.map(|text| text.0),
        signals,
        headers,
        authority: raw.authority.map(|path| path.map(|text| PathBuf::from(text.0))),
    })
}

fn check_signal(signal: &Spanned<String>, found: &mut Findings) {
    if !SIGNALS.contains(&signal.value.as_str()) {
        let near = isomer_diagnostics::nearest(&signal.value, SIGNALS);
        let error = Diagnostic::error("this is not a kind of telemetry").code("bad-signal").at(signal.span, "");
        found.push(match near {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("write `{}`", SIGNALS.join("`, `"))),
        });
    }
}

fn header(name: &Spanned<String>, raw: Spanned<RawHeader>, found: &mut Findings) -> Option<SecretSource> {
    let Spanned { value: raw, span } = raw;
    // A user may have written the secret value in place of the name of its source, so messages do not show this text.
    let error = |text: &str| Diagnostic::error(text).code("bad-secret-source").at(name.span, "").hide(span);
    match (raw.env, raw.file) {
        (Some(variable), None) if is_environment_name(&variable.value.0) => {
            return Some(SecretSource::Env(variable.value.0));
        }
        (Some(_), None) => {
            let error = error("the header field does not name an environment variable");
            found.push(error.hint("`env` is the name of the variable, not its value"));
        }
        (None, Some(file)) => return Some(SecretSource::File(file.value.0.into())),
        (Some(_), Some(_)) => {
            found.push(error("the value of the header field has two sources").hint("keep `env` or `file`"));
        }
        // The source was not valid: the structural check has removed and reported it.
        (None, None) if found.iter().any(|diagnostic| is_within(diagnostic, span)) => {}
        (None, None) => {
            let hint = format!("write `{} = {{ file = \"PATH\" }}` or `{{ env = \"NAME\" }}`", name.value);
            found.push(error("the value of the header field has no source").hint(hint));
        }
    }
    None
}

fn is_within(diagnostic: &Diagnostic, span: Span) -> bool {
    diagnostic.label.as_ref().is_some_and(|label| span.start <= label.span.start && label.span.end <= span.end)
}
