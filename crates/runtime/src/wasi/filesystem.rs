//! The functions of `wasi:filesystem/types` 0.2 and 0.3 that replace wasmtime's functions. [`folders`](crate::folders)
//! explains why.

use wasmtime::component::{Linker, ResourceType};
use wasmtime_wasi::filesystem::Descriptor;

use super::{filesystem_p2, filesystem_p3};
use crate::guest::Guest;

/// The id of the WASI 0.2 interface in wasmtime's implementation; `TYPES_P3` is the id of the WASI 0.3 interface.
const TYPES_P2: &str = "wasi:filesystem/types@0.2.12";
const TYPES_P3: &str = "wasi:filesystem/types@0.3.0";

/// Replaces wasmtime's functions, which must already be defined, with the functions of this module.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for types in [TYPES_P2, TYPES_P3] {
        // Dropping a handle also releases the permit of its open file.
        linker.instance(types)?.resource("descriptor", ResourceType::host::<Descriptor>(), |mut store, rep| {
            store.data_mut().drop_file(rep)
        })?;
    }
    filesystem_p2::bound(&mut linker.instance(TYPES_P2)?)?;
    filesystem_p3::bound(&mut linker.instance(TYPES_P3)?)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;
    use wasmtime_wasi::FsPerms;
    use wasmtime_wasi::filesystem::{File, OpenMode};

    use super::super::fake_guest;
    use super::*;
    use crate::folders::Handle;
    use crate::folders::fake::FakeStorage;
    use crate::folders::open_files::OpenFile;

    #[tokio::test]
    async fn a_file_counts_until_its_guest_drops_the_handle() {
        for types in [TYPES_P2, TYPES_P3] {
            let storage = FakeStorage::new(0, 1 << 30);
            let mut store = fake_guest::store(&storage);
            let mut linker = Linker::new(store.engine());
            linker.allow_shadowing(true);
            super::super::linking::link_shared(&mut linker).unwrap();
            let component = wat::parse_str(format!(
                r#"(component
                    (import "{types}" (instance $types (export "descriptor" (type (sub resource)))))
                    (alias export $types "descriptor" (type $descriptor))
                    (core func $drop (canon resource.drop $descriptor))
                    (core module $m
                        (import "" "drop" (func $drop (param i32)))
                        (func (export "take") (param i32) (call $drop (local.get 0))))
                    (core instance $i (instantiate $m (with "" (instance (export "drop" (func $drop))))))
                    (func (export "take") (param "file" (own $descriptor)) (canon lift (core func $i "take"))))"#
            ));
            let component = Component::new(store.engine(), component.unwrap()).unwrap();
            let guest = linker.instantiate_async(&mut store, &component).await.unwrap();
            let take = guest.get_typed_func::<(Handle,), ()>(&mut store, "take").unwrap();
            let open = || storage.account.open_files().load(std::sync::atomic::Ordering::Relaxed);
            for _ in 0..2 {
                let file = File::new(tempfile::tempfile().unwrap(), FsPerms::ReadOnly, OpenMode::READ, true);
                let token = OpenFile::new(&storage.account).unwrap();
                let handle = store.data_mut().push_file(Descriptor::File(file), token).unwrap();
                assert_eq!(open(), 1);
                take.call_async(&mut store, (handle,)).await.unwrap();
                assert_eq!(open(), 0, "{types}");
            }
        }
    }
}
