//! Adjusts a page's Content Security Policy, so that the page may run the registration script and the service worker
//! (CSP level 3). The page gets no other permissions: a policy without a directive for scripts or workers allows them
//! already, and otherwise the hash of the script, or `'self'` for workers, is added to the sources that apply.

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName};
use http::{HeaderMap, HeaderValue};

/// A directive of a policy: its name and its values.
#[derive(Debug, Clone)]
struct Directive<'a> {
    name: &'a str,
    sources: Vec<&'a str>,
}

/// Adjusts all policies of a response. `hash` is the source that allows the script, in quotes: `'sha256-…'`.
pub(crate) fn allow_registration(headers: &mut HeaderMap, hash: &str) {
    adjust_field(headers, CONTENT_SECURITY_POLICY, hash);
    adjust_field(headers, CONTENT_SECURITY_POLICY_REPORT_ONLY, hash);
}

/// Returns whether scripts of the page can register a service worker: not in a sandbox with an origin of its own.
pub(crate) fn can_register(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(CONTENT_SECURITY_POLICY).into_iter().filter_map(|value| value.to_str().ok());
    let all = texts.flat_map(|text| text.split(',')).map(directives);
    all.into_iter().filter_map(|policy| sources(&policy, &["sandbox"])).all(|flags| {
        let has = |wanted: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(wanted));
        has("allow-scripts") && has("allow-same-origin")
    })
}

fn adjust_field(headers: &mut HeaderMap, name: HeaderName, hash: &str) {
    let http::header::Entry::Occupied(entry) = headers.entry(&name) else { return };
    let (_, values) = entry.remove_entry_mult();
    for value in values.collect::<Vec<_>>() {
        // A policy that is not ASCII is sent unchanged: browsers decide what it means.
        let adjusted = value.to_str().ok().map(|text| text.split(',').map(|policy| adjusted(policy, hash)));
        let adjusted = adjusted.and_then(|all| HeaderValue::try_from(all.collect::<Vec<_>>().join(", ")).ok());
        headers.append(&name, adjusted.unwrap_or(value));
    }
}

/// Returns the directives of a policy.
fn directives(policy: &str) -> Vec<Directive<'_>> {
    let mut directives: Vec<Directive<'_>> = Vec::new();
    for text in policy.split(';') {
        let mut words = text.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        // Browsers ignore a directive that occurs again.
        if !directives.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
            directives.push(Directive { name, sources: words.collect() });
        }
    }
    directives
}

/// Returns one policy with the added sources.
fn adjusted(policy: &str, hash: &str) -> String {
    let mut directives = directives(policy);
    let workers = sources(&directives, &["worker-src", "child-src"]).or_else(|| {
        // With `'strict-dynamic'`, these directives allow every worker that a script starts.
        let scripts = sources(&directives, &["script-src", "default-src"])?;
        let is_dynamic = scripts.iter().any(|source| source.eq_ignore_ascii_case("'strict-dynamic'"));
        (!is_dynamic).then_some(scripts)
    });
    let workers = workers.filter(|sources| !allows_own_origin(sources)).map(|sources| {
        let hosts = sources.into_iter().filter(|source| !source.starts_with('\''));
        hosts.chain(["'self'"]).collect::<Vec<_>>()
    });
    let scripts = sources(&directives, &["script-src-elem", "script-src", "default-src"]);
    let scripts = scripts.filter(|sources| !allows_inline(sources)).map(|sources| {
        let kept = sources.into_iter().filter(|source| !source.eq_ignore_ascii_case("'none'"));
        kept.chain([hash]).collect::<Vec<_>>()
    });
    if let Some(scripts) = scripts {
        let is_elem = directives.iter().any(|known| known.name.eq_ignore_ascii_case("script-src-elem"));
        // Without `script-src-elem`, the hash is added to `script-src`, which must then repeat `default-src`.
        set(&mut directives, if is_elem { "script-src-elem" } else { "script-src" }, scripts);
    }
    if let Some(workers) = workers {
        set(&mut directives, "worker-src", workers);
    }
    let texts = directives.iter().map(|directive| {
        let words = std::iter::once(directive.name).chain(directive.sources.iter().copied());
        words.collect::<Vec<_>>().join(" ")
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// Returns the sources of the first of these directives that the policy has.
fn sources<'a>(directives: &[Directive<'a>], names: &[&str]) -> Option<Vec<&'a str>> {
    let find = |name: &&str| directives.iter().find(|known| known.name.eq_ignore_ascii_case(name));
    names.iter().find_map(find).map(|directive| directive.sources.clone())
}

fn set<'a>(directives: &mut Vec<Directive<'a>>, name: &'a str, sources: Vec<&'a str>) {
    match directives.iter_mut().find(|known| known.name.eq_ignore_ascii_case(name)) {
        Some(known) => known.sources = sources,
        None => directives.push(Directive { name, sources }),
    }
}

fn allows_own_origin(sources: &[&str]) -> bool {
    sources.iter().any(|source| source.eq_ignore_ascii_case("'self'"))
}

/// Returns whether these sources allow every inline script. `'unsafe-inline'` is ignored if the list also has a hash, a
/// nonce or `'strict-dynamic'`. Adding a hash to a list with `'unsafe-inline'` would therefore block other scripts.
fn allows_inline(sources: &[&str]) -> bool {
    let has = |prefix: &str| {
        let starts = |source: &&str| source.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        sources.iter().any(starts)
    };
    has("'unsafe-inline'") && !["'nonce-", "'sha256-", "'sha384-", "'sha512-", "'strict-dynamic'"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "'sha256-abc='";

    #[test]
    fn a_policy_allows_the_script_and_the_worker() {
        for (policy, expected) in [
            ("img-src 'self'", "img-src 'self'"),
            ("default-src 'self'", "default-src 'self'; script-src 'self' 'sha256-abc='"),
            ("default-src 'none'", "default-src 'none'; script-src 'sha256-abc='; worker-src 'self'"),
            ("script-src 'self'", "script-src 'self' 'sha256-abc='"),
            ("script-src 'nonce-1' 'strict-dynamic'", "script-src 'nonce-1' 'strict-dynamic' 'sha256-abc='"),
            (
                "script-src 'nonce-1' 'strict-dynamic'; child-src 'none'",
                "script-src 'nonce-1' 'strict-dynamic' 'sha256-abc='; child-src 'none'; worker-src 'self'",
            ),
            ("script-src 'self' 'unsafe-inline'", "script-src 'self' 'unsafe-inline'"),
            (
                "script-src 'unsafe-inline' 'nonce-1' 'self'",
                "script-src 'unsafe-inline' 'nonce-1' 'self' 'sha256-abc='",
            ),
            (
                "Script-Src-Elem cdn.example; script-src 'self'",
                "Script-Src-Elem cdn.example 'sha256-abc='; script-src 'self'",
            ),
            (
                "script-src https://cdn.example",
                "script-src https://cdn.example 'sha256-abc='; worker-src https://cdn.example 'self'",
            ),
            (
                "default-src 'self'; worker-src 'none'",
                "default-src 'self'; worker-src 'self'; script-src 'self' 'sha256-abc='",
            ),
            (
                "child-src frames.example; script-src 'unsafe-inline'",
                "child-src frames.example; script-src 'unsafe-inline'; worker-src frames.example 'self'",
            ),
            ("script-src 'self'; script-src *", "script-src 'self' 'sha256-abc='"),
            ("", ""),
            (" ; ;", ""),
        ] {
            assert_eq!(adjusted(policy, HASH), expected, "{policy}");
        }
    }

    #[test]
    fn a_page_in_a_sandbox_of_its_own_origin_cannot_register() {
        for (policies, expected) in [
            (&[][..], true),
            (&["default-src 'self'"], true),
            (&["sandbox allow-scripts Allow-Same-Origin"], true),
            (&["sandbox"], false),
            (&["sandbox allow-same-origin"], false),
            (&["default-src 'self', Sandbox allow-scripts"], false),
            (&["img-src *", "sandbox allow-scripts"], false),
        ] {
            let mut headers = HeaderMap::new();
            for policy in policies {
                headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            }
            assert_eq!(can_register(&headers), expected, "{policies:?}");
        }
    }

    #[test]
    fn all_policies_of_a_response_are_adjusted() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self', script-src 'none'"));
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("img-src *"));
        headers.append(CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderValue::from_static("script-src 'self'"));
        allow_registration(&mut headers, HASH);
        let all = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            all(CONTENT_SECURITY_POLICY),
            [
                "default-src 'self'; script-src 'self' 'sha256-abc=', script-src 'sha256-abc='; worker-src 'self'",
                "img-src *"
            ]
        );
        assert_eq!(all(CONTENT_SECURITY_POLICY_REPORT_ONLY), ["script-src 'self' 'sha256-abc='"]);
    }
}
