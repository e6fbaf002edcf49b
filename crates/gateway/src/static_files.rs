//! The files that a browser loads: the generated code of a browser group, and the service worker that imports it.
//!
//! All files but the worker have a digest in their path and never change. They are compressed once, when they are made. A
//! file is found by its exact name, so no path leads outside of the set.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

/// The maximum size of all files of a browser group in bytes, without their compressed copies.
pub const FILES_BYTES_MAX: usize = 16 << 20;

/// The maximum number of files of a browser group.
pub const FILES_MAX: usize = 256;

/// The time for which browsers keep a file whose path contains its digest.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

/// A file before it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStaticFile {
    /// The name, which is the last part of the file's path.
    pub name: String,
    /// The content.
    pub bytes: Bytes,
    /// The content compressed with gzip; `None` if compression does not save bytes.
    pub gzip: Option<Bytes>,
    /// The content type.
    pub content_type: String,
}

impl NewStaticFile {
    /// Creates a file, and compresses its content. Takes several milliseconds per hundred kilobytes, so this is done once,
    /// when the files are made, and not whenever they are loaded.
    #[must_use]
    pub fn compressed(name: String, bytes: Bytes, content_type: String) -> Self {
        Self { name, gzip: compressed(&bytes), bytes, content_type }
    }
}

/// The files of a browser group.
#[derive(Debug)]
pub struct StaticFiles {
    digest: String,
    worker: Bytes,
    files: BTreeMap<String, StaticFile>,
    bytes: usize,
}

#[derive(Debug)]
struct StaticFile {
    plain: Bytes,
    /// The compressed content; `None` if compression does not save bytes.
    gzip: Option<Bytes>,
    content_type: HeaderValue,
}

/// The reason why files cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFiles {
    /// There are too many files.
    #[error("the browser group has more than {FILES_MAX} files")]
    TooMany,
    /// The total size of the files is too large.
    #[error("the files of the browser group have more than {} MiB", FILES_BYTES_MAX >> 20)]
    TooLarge,
    /// The digest, a name or a content type has characters that are not allowed in a path or a header.
    #[error("`{0}` is not a valid name of a file of the browser group")]
    Name(String),
    /// The file that the worker imports does not exist.
    #[error("the browser group has no file `{0}`")]
    NoEntry(String),
}

impl StaticFiles {
    /// Prepares the files of the browser group with this digest. `entry` is the name of the file that the service worker
    /// imports.
    ///
    /// # Errors
    /// If a limit is exceeded, or if a name is not valid.
    pub fn new(
        digest: &str,
        entry: &str,
        files: impl IntoIterator<Item = NewStaticFile>,
    ) -> Result<Self, InvalidFiles> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !is_name(digest) {
            return Err(InvalidFiles::Name(digest.to_owned()));
        }
        let (mut prepared, mut plain_bytes) = (BTreeMap::new(), 0);
        for NewStaticFile { name, bytes, gzip, content_type } in files {
            plain_bytes += bytes.len().max(gzip.as_ref().map_or(0, Bytes::len));
            if prepared.len() == FILES_MAX {
                return Err(InvalidFiles::TooMany);
            }
            if plain_bytes > FILES_BYTES_MAX {
                return Err(InvalidFiles::TooLarge);
            }
            let content_type = HeaderValue::try_from(content_type).map_err(|_| InvalidFiles::Name(name.clone()))?;
            if !is_name(&name) {
                return Err(InvalidFiles::Name(name));
            }
            prepared.insert(name, StaticFile { plain: bytes, gzip, content_type });
        }
        if !prepared.contains_key(entry) {
            return Err(InvalidFiles::NoEntry(entry.to_owned()));
        }
        let worker = Bytes::from(format!("import \"/_isomer/web/{digest}/{entry}\";\n"));
        let bytes = prepared.values().map(|file| file.plain.len() + file.gzip.as_ref().map_or(0, Bytes::len)).sum();
        Ok(Self { digest: digest.to_owned(), worker, files: prepared, bytes })
    }

    /// Returns the digest of the browser group.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the memory that the files use, with their compressed copies, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the response to a request for the service worker.
    #[must_use]
    pub fn worker(&self, request: &HeaderMap) -> Response<Bytes> {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.digest)).expect("a digest is a valid tag");
        let mut response = script(self.worker.clone());
        if request.get_all(IF_NONE_MATCH).iter().any(|known| *known == tag) {
            *response.body_mut() = Bytes::new();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response.headers_mut().insert(ETAG, tag);
        response
    }

    /// Returns the response to a request for the file `name` of the browser group `digest`, or `None` if there is no
    /// such file.
    #[must_use]
    pub fn file(&self, digest: &str, name: &str, request: &HeaderMap) -> Option<Response<Bytes>> {
        let file = self.files.get(name).filter(|_| digest == self.digest)?;
        let gzip = file.gzip.as_ref().filter(|_| accepts_gzip(request));
        let mut response = Response::new(gzip.unwrap_or(&file.plain).clone());
        let headers = response.headers_mut();
        if gzip.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(CONTENT_TYPE, file.content_type.clone());
        headers.insert(CACHE_CONTROL, IMMUTABLE);
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        protect(headers);
        Some(response)
    }
}

/// Returns a response with the script of a service worker for all paths.
pub(crate) fn script(text: Bytes) -> Response<Bytes> {
    let mut response = Response::new(text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(SERVICE_WORKER_ALLOWED, HeaderValue::from_static("/"));
    protect(headers);
    response
}

/// Sets the fields with which browsers refuse to use a response in pages of other origins, or as another type.
pub(crate) fn protect(headers: &mut HeaderMap) {
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
}

fn compressed(bytes: &Bytes) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < bytes.len()).then(|| compressed.into())
}

/// Returns whether the client accepts gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    let (mut gzip, mut others) = (None, None);
    for entry in texts.flat_map(|text| text.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let is_accepted = weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0));
        match name {
            "*" => others = Some(is_accepted),
            _ if name.eq_ignore_ascii_case("gzip") => gzip = Some(is_accepted),
            _ => {}
        }
    }
    gzip.or(others).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn file(name: &str, text: &str) -> NewStaticFile {
        let content_type = "text/javascript".to_owned();
        NewStaticFile::compressed(name.to_owned(), Bytes::copy_from_slice(text.as_bytes()), content_type)
    }

    fn files() -> StaticFiles {
        let long = "let a = 1;\n".repeat(100);
        StaticFiles::new("abc", "sw.js", [file("sw.js", &long), file("tiny.js", "1")]).unwrap()
    }

    fn accepting(coding: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, coding.parse().unwrap())])
    }

    #[test]
    fn a_file_is_immutable_and_compressed_for_clients_that_accept_it() {
        let files = files();
        let response = files.file("abc", "sw.js", &accepting("br, gzip")).unwrap();
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[CACHE_CONTROL], IMMUTABLE);
        assert_eq!(response.headers()[CORP], "same-origin");
        assert_eq!(response.headers()[NOSNIFF], "nosniff");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&response.body()[..]).read_to_string(&mut text).unwrap();
        assert!(text.starts_with("let a"));
        for coding in ["identity", "gzip;q=0", "br", "*;q=0", "gzip;q=x"] {
            let response = files.file("abc", "sw.js", &accepting(coding)).unwrap();
            assert!(!response.headers().contains_key(CONTENT_ENCODING), "{coding}");
        }
        assert!(!files.file("abc", "tiny.js", &accepting("gzip")).unwrap().headers().contains_key(CONTENT_ENCODING));
        assert!(files.bytes() > 1100);
    }

    #[test]
    fn only_exact_names_are_found() {
        for (digest, name) in [("abd", "sw.js"), ("abc", "../sw.js"), ("abc", "SW.js"), ("abc", ""), ("", "sw.js")] {
            assert!(files().file(digest, name, &HeaderMap::new()).is_none(), "{digest} {name}");
        }
    }

    #[test]
    fn the_worker_imports_the_files_and_is_confirmed() {
        let files = files();
        let response = files.worker(&HeaderMap::new());
        assert_eq!(&response.body()[..], b"import \"/_isomer/web/abc/sw.js\";\n");
        assert_eq!(response.headers()[SERVICE_WORKER_ALLOWED], "/");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, response.headers()[ETAG].clone())]);
        assert_eq!(files.worker(&known).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn invalid_files_are_refused() {
        let of = |digest: &str, entry: &str, name: &str| StaticFiles::new(digest, entry, [file(name, "1")]).map(drop);
        assert_eq!(of("abc", "sw.js", "sw.js"), Ok(()));
        for name in ["", ".", "..", "a/b", "a\"b", "a b", "ä"] {
            assert_eq!(of("abc", name, name), Err(InvalidFiles::Name(name.to_owned())));
            assert_eq!(of(name, "sw.js", "sw.js"), Err(InvalidFiles::Name(name.to_owned())));
        }
        assert_eq!(of("abc", "other.js", "sw.js"), Err(InvalidFiles::NoEntry("other.js".to_owned())));
        let many = (0..=FILES_MAX).map(|number| file(&format!("{number}.js"), ""));
        assert_eq!(StaticFiles::new("abc", "0.js", many).map(drop), Err(InvalidFiles::TooMany));
        let large = NewStaticFile { bytes: vec![0; FILES_BYTES_MAX + 1].into(), ..file("a", "") };
        assert_eq!(StaticFiles::new("abc", "a", [large]).map(drop), Err(InvalidFiles::TooLarge));
    }
}
