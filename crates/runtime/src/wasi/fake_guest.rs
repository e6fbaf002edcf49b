//! A wasmtime store for tests, whose guest writes to a [`FakeStorage`].

use std::path::Path;
use std::sync::Arc;

use isomer_telemetry::DiscardEvents;
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, Dir, OpenMode};

use crate::folders::fake::FakeStorage;
use crate::folders::{FolderStorage, GrantedFolders, Handle};
use crate::guest::{Denials, GroupTemplate, Guest, OwnerSettings};

/// Returns a wasmtime store whose guest writes to `storage` and is charged to the storage's account.
pub(super) fn store(storage: &Arc<FakeStorage>) -> Store<Guest> {
    let mut config = Config::new();
    config.wasm_component_model_async(true).concurrency_support(true);
    let sink = Arc::new(DiscardEvents);
    let limit = storage.clone() as Arc<dyn FolderStorage>;
    let template = GroupTemplate {
        owners: Box::new([OwnerSettings { storage: Some(limit), ..OwnerSettings::default() }]),
        folders: GrantedFolders::default(),
        denials: Denials::new(sink.clone()),
        sink,
        account: storage.account.clone(),
        concurrent_others: 0,
    };
    let guest = Guest::new(Arc::new(template), 0, storage.account.host_memory());
    Store::new(&Engine::new(&config).unwrap(), guest)
}

/// Returns a handle of the folder at `path` that the guest of `store` may write to.
pub(super) fn folder(store: &mut Store<Guest>, path: &Path) -> Handle {
    let folder = std::fs::File::open(path).unwrap();
    let folder = Dir::new(folder, FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE, true);
    store.data_mut().table().push(Descriptor::Dir(folder)).unwrap()
}
