//! The embedded files of the pages, and the responses that contain them.

use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// The policy for all pages: only files of this server, no inline scripts or styles, and no frames around the page.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of all responses with files.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // The browser checks before each use whether its copy is current. If the file is unchanged, the response is a short
    // 304.
    (CACHE_CONTROL, "no-cache"),
];

/// The first segments of the pages' paths. The page with metrics is `/charts`, because `/metrics` returns the metrics
/// as text. All pages are the same document, whose script shows the page of its path.
const PAGES: [&str; 9] = ["", "map", "traces", "logs", "charts", "deployments", "data", "shape", "tenants"];

/// An embedded file.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    encoded: OnceLock<Encoded>,
}

/// The compressed form of a file, and the entity tags of both forms.
struct Encoded {
    gzip: Bytes,
    tag: HeaderValue,
    gzip_tag: HeaderValue,
}

/// Lists the embedded files by their paths in `assets/`.
macro_rules! files {
    ($($name:literal)+) => {
        static FILES: [File; [$($name),+].len()] = [$(File {
            name: $name,
            bytes: include_bytes!(concat!("../assets/", $name)),
            encoded: OnceLock::new(),
        }),+];
    };
}

files! {
    "icon.svg"
    "index.html"
    "lib/api.js"
    "lib/app-picker.js"
    "lib/arrangement.js"
    "lib/format.js"
    "lib/graph.js"
    "lib/history.js"
    "lib/live.js"
    "lib/metrics-model.js"
    "lib/parts.js"
    "lib/router.js"
    "lib/series.js"
    "lib/trace-model.js"
    "lib/traffic.js"
    "lib/values.js"
    "main.js"
    "pages/advice.js"
    "pages/chart.js"
    "pages/compare.js"
    "pages/data.js"
    "pages/deployments.js"
    "pages/kv-store.js"
    "pages/logs.js"
    "pages/map-panel.js"
    "pages/map.js"
    "pages/metrics.js"
    "pages/shape-apply.js"
    "pages/shape-comparison.js"
    "pages/shape.js"
    "pages/sql-store.js"
    "pages/swap.js"
    "pages/tenant-panel.js"
    "pages/tenants.js"
    "pages/trace-order.js"
    "pages/trace.js"
    "pages/traces.js"
    "shell.js"
    "style/base.css"
    "style/data.css"
    "style/map.css"
    "style/parts.css"
    "style/shape.css"
    "style/shell.css"
    "style/stores.css"
    "style/traces.css"
    "theme.js"
    "vendor/LICENSE-dagre.txt"
    "vendor/LICENSE-htm.txt"
    "vendor/LICENSE-preact.txt"
    "vendor/LICENSE-uplot.txt"
    "vendor/dagre.js"
    "vendor/preact.js"
    "vendor/uplot.css"
    "vendor/uplot.js"
}

impl File {
    fn media_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }

    fn encoded(&self) -> &Encoded {
        self.encoded.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let gzip = encoder.write_all(self.bytes).and_then(|()| encoder.finish());
            let digest: String = Sha256::digest(self.bytes)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            let tag = |suffix: &str| {
                HeaderValue::try_from(format!("\"{digest}{suffix}\""))
                    .expect("hexadecimal digits are valid in a header")
            };
            let gzip = Bytes::from(gzip.expect("writing to memory does not fail"));
            Encoded { gzip, tag: tag(""), gzip_tag: tag("-gzip") }
        })
    }
}

/// Returns whether there is a file or page at `path`.
pub(crate) fn exists(path: &str) -> bool {
    find(path).is_some()
}

/// Returns the response with the file or page at `path`; `None` if there is none.
pub(crate) fn respond(path: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
    let file = find(path)?;
    let encoded = file.encoded();
    let is_gzip = accepts_gzip(headers);
    let tag = if is_gzip { &encoded.gzip_tag } else { &encoded.tag };
    let mut response = Response::new(Bytes::new());
    let fields = response.headers_mut();
    for (name, value) in HEADERS {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.insert(ETAG, tag.clone());
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if has_tag(headers, tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type()));
    if is_gzip {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    *response.body_mut() = if is_gzip { encoded.gzip.clone() } else { Bytes::from_static(file.bytes) };
    Some(response)
}

fn find(path: &str) -> Option<&'static File> {
    let path = path.strip_prefix('/')?;
    let by_name = |name: &str| FILES.iter().find(|file| file.name == name);
    match path.strip_prefix("assets/") {
        Some(name) => by_name(name),
        None => PAGES.contains(&path.split('/').next().unwrap_or_default()).then(|| by_name("index.html")).flatten(),
    }
}

/// Returns whether the client accepts gzip. A client that mentions gzip with a quality of 0 does not.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        is_gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn has_tag(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|known| known.trim().as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum size in bytes of all files together, compressed.
    const GZIP_BYTES_MAX: usize = 150 << 10;

    fn get(path: &str, fields: &[(HeaderName, &'static str)]) -> Option<Response<Bytes>> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        respond(path, &headers.collect())
    }

    #[test]
    fn all_files_are_small() {
        let total: usize = FILES.iter().map(|file| file.encoded().gzip.len()).sum();
        assert!(total < GZIP_BYTES_MAX, "{total} bytes");
    }

    #[test]
    fn every_file_in_the_folder_is_embedded() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let (mut folders, mut found) = (vec![root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        found.sort();
        let mut embedded: Vec<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        embedded.sort();
        assert_eq!(embedded, found);
    }

    #[test]
    fn pages_contain_no_inline_scripts_or_styles() {
        let page = std::str::from_utf8(find("/").unwrap().bytes).unwrap();
        assert!(!page.contains("<style") && !page.contains("style=") && !page.contains(" on"));
        assert!(page.split("<script").skip(1).all(|script| script.contains("src=\"/assets/")));
        assert!(!page.contains("//"), "no address of another server");
    }

    #[test]
    fn pages_and_files_are_found_by_their_paths() {
        for path in
            ["/", "/traces", "/traces/0af7", "/map", "/deployments", "/assets/main.js", "/assets/vendor/uplot.css"]
        {
            assert_eq!(get(path, &[]).unwrap().status(), StatusCode::OK, "{path}");
        }
        for path in ["", "/v1/status", "/assets/", "/assets/../Cargo.toml", "/assets/none.js", "/index.html", "/mapx"] {
            assert!(get(path, &[]).is_none(), "{path}");
        }
    }

    #[test]
    fn responses_are_compressed_tagged_and_guarded() {
        let plain = get("/", &[]).unwrap();
        let gzip = get("/", &[(ACCEPT_ENCODING, "br, gzip")]).unwrap();
        assert_eq!(gzip.headers()[CONTENT_ENCODING], "gzip");
        assert!(gzip.body().len() < plain.body().len());
        assert!(get("/", &[(ACCEPT_ENCODING, "gzip;q=0")]).unwrap().headers().get(CONTENT_ENCODING).is_none());
        assert_ne!(plain.headers()[ETAG], gzip.headers()[ETAG], "a strong tag identifies the bytes");
        let tag = gzip.headers()[ETAG].to_str().unwrap().to_owned();
        let known = HeaderMap::from_iter([
            (ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
            (IF_NONE_MATCH, HeaderValue::try_from(format!("\"x\", {tag}")).unwrap()),
        ]);
        let unchanged = respond("/", &known).unwrap();
        assert_eq!((unchanged.status(), unchanged.body().len()), (StatusCode::NOT_MODIFIED, 0));
        for response in [plain, gzip, unchanged] {
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(response.headers()[REFERRER_POLICY], "no-referrer");
        }
    }
}
