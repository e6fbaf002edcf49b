//! The operations on the blobs and manifests of one repository (OCI distribution specification 1.1).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LINK};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use isomer_ids::{Digest, OciReference};
use isomer_parcel::artifact::{ARTIFACT_MANIFEST_BYTES_MAX, Descriptor, INDEX_TYPE, sha256};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::authentication::{Access, authorize};
use crate::cache::BlobCache;
use crate::connection::{
    Connection, Order, RegistryOptions, is_same_origin, location, read, read_pieces, redirect, server, status_error,
};
use crate::credentials::{CredentialSource, Credentials};
use crate::error::RegistryError;

/// The media types of manifests that this client reads.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// The header field with the digest of a manifest or blob.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The header field that confirms that the registry adds the manifest to the list of referrers of its subject.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A repository of a registry.
pub struct Registry {
    connection: Connection,
    registry: String,
    repository: String,
    credentials: Option<Credentials>,
    /// The values of `Authorization` with which earlier requests succeeded.
    authorized: Mutex<BTreeMap<Access, HeaderValue>>,
}

impl Registry {
    /// Prepares access to the repository of a reference. Nothing is sent yet.
    ///
    /// # Errors
    /// If the credentials or a file with certificate authorities cannot be read.
    pub async fn open(
        reference: &OciReference,
        options: &RegistryOptions,
        credentials: &CredentialSource,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            connection: Connection::new(reference.registry(), options)?,
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            credentials: credentials.credentials(reference.registry()).await?,
            authorized: Mutex::default(),
        })
    }

    /// Returns the bytes of a manifest, which is named by a tag or by `sha256:` and a digest, and its digest. Returns
    /// `None` if it does not exist.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses access, if the manifest is too large, or if it has another digest.
    pub async fn manifest(&self, name: &str) -> Result<Option<(Digest, Bytes)>, RegistryError> {
        let mut order = Order::new(Method::GET, "a request for a manifest");
        order = order.header(ACCEPT, MANIFEST_TYPES);
        let (url, response) = self.request(self.url(&format!("manifests/{name}"))?, &order, Access::Pull).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(status_error(&url, response, order.operation).await),
        }
        let named = name.strip_prefix("sha256:").map(ToOwned::to_owned);
        let declared = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        let declared = declared.and_then(|value| value.strip_prefix("sha256:")).map(ToOwned::to_owned);
        let bytes = read(&url, response, "the manifest", ARTIFACT_MANIFEST_BYTES_MAX).await?;
        let found = sha256(&bytes);
        for expected in named.into_iter().chain(declared) {
            check_digest(&url, "the manifest", &expected, &found)?;
        }
        Ok(Some((found, bytes)))
    }

    /// Stores a manifest under a tag or a digest.
    ///
    /// Returns whether the registry itself lists the manifest as a referrer of its subject.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses the manifest.
    pub async fn put_manifest(
        &self,
        name: &str,
        bytes: &Bytes,
        media_type: &'static str,
    ) -> Result<bool, RegistryError> {
        let order = Order::new(Method::PUT, "the upload of a manifest").header(CONTENT_TYPE, media_type);
        let url = self.url(&format!("manifests/{name}"))?;
        let (url, response) = self.request(url, &order.body(bytes.clone()), Access::Push).await?;
        let response = self.expect(&url, response, StatusCode::CREATED, "the upload of a manifest").await?;
        Ok(response.headers().contains_key(SUBJECT))
    }

    /// Returns a page of the registry's own list of the manifests that refer to a digest: the first one, or the one at
    /// `page`. Returns `None` if it keeps no such lists.
    pub(crate) async fn listed_referrers(
        &self,
        subject: &Digest,
        page: Option<Url>,
    ) -> Result<Option<ReferrersPage>, RegistryError> {
        let order = Order::new(Method::GET, "a request for signatures").header(ACCEPT, INDEX_TYPE);
        let url = match page {
            Some(page) => page,
            None => self.url(&format!("referrers/sha256:{subject}"))?,
        };
        let (url, response) = self.request(url, &order, Access::Pull).await?;
        match response.status() {
            StatusCode::OK => {
                let next = NextPage::of(&url, response.headers(), self.connection.base());
                let bytes = read(&url, response, "the list", ARTIFACT_MANIFEST_BYTES_MAX).await?;
                Ok(Some(ReferrersPage { bytes, next }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(status_error(&url, response, order.operation).await),
        }
    }

    /// Returns whether the repository has a blob.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses access.
    pub async fn has_blob(&self, digest: &Digest, access: BlobAccess) -> Result<bool, RegistryError> {
        let order = Order::new(Method::HEAD, "a request for a blob");
        let access = if access == BlobAccess::BeforeUpload { Access::Push } else { Access::Pull };
        let (url, response) = self.request(self.url(&format!("blobs/sha256:{digest}"))?, &order, access).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(status_error(&url, response, order.operation).await),
        }
    }

    /// Returns a blob from the cache or the registry. Its size and digest are those of the descriptor.
    ///
    /// # Errors
    /// If the registry cannot be reached, refuses access or does not have the blob, or if the bytes differ from the
    /// descriptor.
    pub async fn blob(&self, descriptor: &Descriptor, cache: &BlobCache) -> Result<Bytes, RegistryError> {
        let digest = descriptor.sha256().ok_or_else(|| self.malformed("a digest is not a SHA-256"))?;
        if let Some(bytes) = cache.get(&digest, descriptor.size) {
            return Ok(bytes);
        }
        let order = Order::new(Method::GET, "a request for a blob");
        let (url, response) = self.request(self.url(&format!("blobs/sha256:{digest}"))?, &order, Access::Pull).await?;
        if response.status() != StatusCode::OK {
            return Err(status_error(&url, response, order.operation).await);
        }
        let (mut hasher, mut bytes) = (Sha256::new(), Vec::new());
        read_pieces(&url, response, "a blob", descriptor.size, |piece| {
            hasher.update(piece);
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        check_digest(&url, "a blob", digest.as_str(), &Digest::from(<[u8; 32]>::from(hasher.finalize())))?;
        if bytes.len() as u64 != descriptor.size {
            return Err(self.malformed("the size of a blob is not the one in the manifest"));
        }
        cache.insert(&digest, &bytes);
        Ok(bytes.into())
    }

    /// Uploads a blob, unless the repository has it. Returns whether it was uploaded.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses the blob.
    pub async fn put_blob(&self, digest: &Digest, bytes: &Bytes) -> Result<bool, RegistryError> {
        if self.has_blob(digest, BlobAccess::BeforeUpload).await? {
            return Ok(false);
        }
        const OPERATION: &str = "the upload of a blob";
        let order = Order::new(Method::POST, OPERATION);
        let (url, response) = self.request(self.url("blobs/uploads/")?, &order, Access::Push).await?;
        let response = self.expect(&url, response, StatusCode::ACCEPTED, OPERATION).await?;
        let mut upload = location(&url, response.headers())?;
        if !is_same_origin(self.connection.base(), &upload) {
            let reason = "an upload must stay at the registry";
            return Err(redirect(self.connection.base(), &upload, reason));
        }
        upload.query_pairs_mut().append_pair("digest", &format!("sha256:{digest}"));
        let order = Order::new(Method::PUT, OPERATION).header(CONTENT_TYPE, "application/octet-stream");
        let (url, response) = self.request(upload, &order.body(bytes.clone()), Access::Push).await?;
        self.expect(&url, response, StatusCode::CREATED, OPERATION).await?;
        Ok(true)
    }

    pub(crate) fn malformed(&self, problem: &str) -> RegistryError {
        RegistryError::Malformed { server: server(self.connection.base()), problem: problem.to_owned() }
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let path = format!("v2/{}/{path}", self.repository);
        self.connection
            .base()
            .join(&path)
            .map_err(|_| RegistryError::Reference { problem: format!("`{}` is not a repository", self.repository) })
    }

    /// Sends a request, with credentials if the registry demands them.
    async fn request(
        &self,
        url: Url,
        order: &Order,
        access: Access,
    ) -> Result<(Url, Response<Incoming>), RegistryError> {
        let authorization = self.authorization(access);
        let (at, response) = self.connection.send(url.clone(), order, authorization.as_ref()).await?;
        // Only the registry itself may demand credentials, not a server to which it has redirected.
        if response.status() != StatusCode::UNAUTHORIZED || !is_same_origin(&at, self.connection.base()) {
            return Ok((at, response));
        }
        let credentials = self.credentials.as_ref();
        let granted = authorize(&self.connection, response.headers(), &self.repository, access, credentials).await;
        let granted = match granted {
            Ok(granted) => granted.ok_or_else(|| self.unauthorized())?,
            Err(RegistryError::Status { status: 401 | 403, .. }) => return Err(self.unauthorized()),
            Err(error) => return Err(error),
        };
        let (at, response) = self.connection.send(url, order, Some(&granted)).await?;
        if !is_same_origin(&at, self.connection.base()) {
            return Ok((at, response));
        }
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.unauthorized());
        }
        self.authorized.lock().unwrap_or_else(PoisonError::into_inner).insert(access, granted);
        Ok((at, response))
    }

    fn authorization(&self, access: Access) -> Option<HeaderValue> {
        self.authorized.lock().unwrap_or_else(PoisonError::into_inner).get(&access).cloned()
    }

    fn unauthorized(&self) -> RegistryError {
        RegistryError::Unauthorized {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            has_credentials: self.credentials.is_some(),
        }
    }

    async fn expect(
        &self,
        url: &Url,
        response: Response<Incoming>,
        status: StatusCode,
        operation: &'static str,
    ) -> Result<Response<Incoming>, RegistryError> {
        match response.status() {
            found if found == status => Ok(response),
            StatusCode::UNAUTHORIZED if is_same_origin(url, self.connection.base()) => Err(self.unauthorized()),
            _ => Err(status_error(url, response, operation).await),
        }
    }
}

/// A page of the list of the manifests that refer to another one.
pub(crate) struct ReferrersPage {
    /// An index.
    pub(crate) bytes: Bytes,
    pub(crate) next: NextPage,
}

/// Where a list continues.
pub(crate) enum NextPage {
    /// The list is complete.
    None,
    /// At this URL of the registry.
    At(Url),
    /// At another server, which is not asked.
    Elsewhere,
}

impl NextPage {
    /// Returns where the field `Link` of a response from `url` says that the list continues.
    fn of(url: &Url, headers: &HeaderMap, base: &Url) -> Self {
        let links = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
        let next = links.flat_map(|value| value.split(',')).find_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = |parameter: &str| matches!(parameter.trim(), "rel=\"next\"" | "rel=next");
            parameters.split(';').any(is_next).then_some(target)
        });
        match next.map(|target| url.join(target)) {
            None => Self::None,
            Some(Ok(next)) if is_same_origin(&next, base) => Self::At(next),
            Some(_) => Self::Elsewhere,
        }
    }
}

/// Why the existence of a blob is checked, which decides the rights that are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobAccess {
    /// The blob is uploaded if it does not exist.
    BeforeUpload,
    /// The blob is only read.
    Read,
}

fn check_digest(url: &Url, what: &'static str, expected: &str, found: &Digest) -> Result<(), RegistryError> {
    if expected == found.as_str() {
        return Ok(());
    }
    Err(RegistryError::Digest {
        server: server(url),
        what,
        expected: crate::connection::shown(expected),
        found: found.to_string(),
    })
}
