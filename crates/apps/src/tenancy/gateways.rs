//! The gateways of apps with a browser group. A gateway is kept while a revision of its app is in memory, so rates and
//! ended sessions apply across revisions.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use isomer_capabilities::{RecordFile, StorageAccount, open_session_key};
use isomer_front::gateway::app_gateway::GATEWAY_BYTES_MAX;
use isomer_front::gateway::ended_sessions::{ENDED_MAX, ENDED_RECORD_BYTES, EndedStore};
use isomer_front::gateway::{AppGateway, RequestTime};
use isomer_ids::{AppName, TenantName};
use isomer_runtime::Account;

/// The file with the ended sessions of an app, next to the key.
const ENDED_FILE: &str = "sessions.ended";

/// The maximum size of the file. Records that have expired are removed when the gateway is opened.
const ENDED_FILE_BYTES_MAX: usize = 2 * ENDED_MAX * ENDED_RECORD_BYTES;

/// Stores the ended sessions in the app's data.
struct EndedFile(RecordFile);

impl EndedStore for EndedFile {
    fn add(&self, record: &[u8; ENDED_RECORD_BYTES]) {
        self.0.add(record);
    }

    fn replace(&self, records: Vec<u8>) {
        self.0.replace(records);
    }
}

/// The gateways of all apps in memory.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<HashMap<(TenantName, AppName), Weak<AppGateway>>>);

impl Gateways {
    /// Returns the gateway of an app. If there is none, creates it with the key in the file at `key_path`, which is
    /// created if it does not exist, and with the ended sessions in a file next to it. Charges `account` and `storage`.
    ///
    /// # Errors
    /// If the files cannot be read or created, or if the account has no memory left.
    pub(super) async fn open(
        &self,
        tenant: &TenantName,
        app: &AppName,
        key_path: &Path,
        (account, storage): (&Arc<Account>, &Arc<StorageAccount>),
    ) -> io::Result<Arc<AppGateway>> {
        let name = (tenant.clone(), app.clone());
        if let Some(gateway) = self.with(|all| all.get(&name).and_then(Weak::upgrade)) {
            return Ok(gateway);
        }
        let (key_path, storage, runtime) = (key_path.to_owned(), storage.clone(), tokio::runtime::Handle::current());
        let opened = tokio::task::spawn_blocking(move || {
            let key = open_session_key(&key_path)?;
            let sizes = (ENDED_RECORD_BYTES, ENDED_FILE_BYTES_MAX);
            let ended = RecordFile::open(key_path.with_file_name(ENDED_FILE), sizes, storage, runtime)?;
            io::Result::Ok((key, ended))
        });
        let (key, (file, records)) = opened.await.map_err(io::Error::other)??;
        let memory = account.charge_host_memory(GATEWAY_BYTES_MAX);
        let memory = memory.map_err(|full| io::Error::new(io::ErrorKind::OutOfMemory, full))?;
        Ok(self.with(|all| {
            // Another load may have created the gateway meanwhile.
            if let Some(gateway) = all.get(&name).and_then(Weak::upgrade) {
                return gateway;
            }
            all.retain(|_, gateway| gateway.strong_count() > 0);
            let gateway = AppGateway::new(&key).charged(memory);
            let gateway = Arc::new(gateway.remembering(&records, RequestTime::now(), Box::new(EndedFile(file))));
            all.insert(name, Arc::downgrade(&gateway));
            gateway
        }))
    }

    /// Refuses further calls of the earlier revisions of an app, because the app's stores will be replaced.
    pub(super) fn end_revisions(&self, tenant: &TenantName, app: &AppName) {
        let gateway = self.with(|all| all.get(&(tenant.clone(), app.clone())).and_then(Weak::upgrade));
        if let Some(gateway) = gateway {
            gateway.end_revisions();
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(TenantName, AppName), Weak<AppGateway>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use http::HeaderMap;
    use http::header::COOKIE;
    use http::uri::Scheme;
    use isomer_front::gateway::{BrowserParts, BrowserRevision, GatewayClient, PublishedFunctions, SiteGateway};
    use isomer_ids::PlanDigest;
    use isomer_wire::{Call, CallFailure, CallResult, Callee};

    use super::*;

    #[tokio::test]
    async fn an_ended_session_stays_ended_when_the_app_is_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let (gateways, tenant, app) = (Gateways::default(), "t".parse().unwrap(), "shop".parse().unwrap());
        let (key, account) = (dir.path().join("sessions.key"), Account::unlimited());
        let storage = Arc::new(StorageAccount::unlimited());
        let open = async || gateways.open(&tenant, &app, &key, (&account, &storage)).await.unwrap();
        let (client, time) = (GatewayClient { network: None, scheme: Scheme::HTTPS }, RequestTime::now());
        let gateway = open().await;
        let [ended, other] = [(); 2].map(|()| gateway.start_session(&client, time).unwrap());
        let _next = gateway.rotate(&ended, &client, time).unwrap();
        let cookie = |session| {
            let line = gateway.set_cookie(session, &Scheme::HTTPS);
            let pair = line.to_str().unwrap().split(';').next().unwrap().to_owned();
            HeaderMap::from_iter([(COOKIE, pair.parse().unwrap())])
        };
        let (ended, other) = (cookie(&ended), cookie(&other));
        drop(gateway);
        let file = dir.path().join(ENDED_FILE);
        while std::fs::read(&file).unwrap_or_default().len() < ENDED_RECORD_BYTES {
            tokio::task::yield_now().await;
        }
        let gateway = open().await;
        assert_eq!(gateway.session(&ended, &Scheme::HTTPS, time), None);
        assert!(gateway.session(&other, &Scheme::HTTPS, time).is_some());
    }

    #[tokio::test]
    async fn calls_of_earlier_revisions_end_with_the_name_of_the_app() {
        struct NoCallee;
        impl Callee for NoCallee {
            fn call(&self, _: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
                Box::pin(std::future::ready(Err(CallFailure::refused("no function"))))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (gateways, tenant, app) = (Gateways::default(), "t".parse().unwrap(), "shop".parse().unwrap());
        let (key, account) = (dir.path().join("sessions.key"), Account::unlimited());
        let app_gateway = gateways.open(&tenant, &app, &key, (&account, &Arc::new(StorageAccount::unlimited()))).await;
        let app_gateway = app_gateway.unwrap();
        let now = RequestTime::now().instant;
        let [old, new] = [1, 2].map(|plan| SiteGateway {
            app: app_gateway.clone(),
            revision: Arc::new(BrowserRevision::new(BrowserParts {
                functions: PublishedFunctions::new(PlanDigest([plan; 16]), []),
                callee: Arc::new(NoCallee),
                files: None,
                components: [].into(),
                config: [].into(),
                cookie: None,
                image_bytes_max: 0,
                memory: None,
            })),
        });
        old.begin_service(now);
        new.begin_service(now);
        gateways.end_revisions(&tenant, &"other".parse().unwrap());
        assert!(new.revision(PlanDigest([1; 16]), now).is_some());
        gateways.end_revisions(&tenant, &app);
        assert!(new.revision(PlanDigest([1; 16]), now).is_none());
    }

    #[tokio::test]
    async fn an_app_has_one_gateway_while_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (gateways, tenant) = (Gateways::default(), "t".parse().unwrap());
        let open = |app: &str| {
            let (app, path) = (app.parse().unwrap(), dir.path().join(app).join("sessions.key"));
            let (gateways, tenant) = (&gateways, &tenant);
            let accounts = (Account::unlimited(), Arc::new(StorageAccount::unlimited()));
            async move { gateways.open(tenant, &app, &path, (&accounts.0, &accounts.1)).await.unwrap() }
        };
        let first = open("shop").await;
        assert!(Arc::ptr_eq(&first, &open("shop").await));
        assert!(!Arc::ptr_eq(&first, &open("other").await));
        drop(first);
        let _next = open("third").await;
        assert_eq!(gateways.with(|all| all.len()), 1);
    }
}
