//! Tests of the page store of the provider `stores`, compiled for this machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "the provider uses more of these modules than this test")]

#[path = "../../../providers/stores/src/generations.rs"]
mod generations;
#[path = "../../../providers/stores/src/lock.rs"]
mod lock;
#[path = "../../../providers/stores/src/pages.rs"]
mod pages;

use pages::{PAGE_BYTES, Pages, PagesError, WRITTEN_PAGES_MAX};

/// The random names of files. In the provider, the host makes them.
mod random {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn name() -> String {
        format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

fn opened(folder: &tempfile::TempDir) -> Pages {
    let mut pages = Pages::new(&folder.path().join("orders"));
    pages.refresh().unwrap();
    pages
}

fn first_page(pages: &Pages) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    pages.read(0, &mut page).unwrap();
    page
}

#[test]
fn a_commit_is_visible_to_other_instances() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (opened(&folder), opened(&folder));
    one.write(0, &[1; PAGE_BYTES]).unwrap();
    one.commit().unwrap();
    assert_eq!((first_page(&one), one.bytes()), ([1; PAGE_BYTES], PAGE_BYTES as u64));
    // A writer that started from the earlier state changes nothing.
    other.write(0, &[2; PAGE_BYTES]).unwrap();
    assert!(matches!(other.commit(), Err(PagesError::Conflict)));
    other.refresh().unwrap();
    assert_eq!(first_page(&other), [1; PAGE_BYTES]);
}

#[test]
fn the_changes_of_a_transaction_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut pages = opened(&folder);
    pages.write(0, &[1; PAGE_BYTES]).unwrap();
    pages.commit().unwrap();
    let write = |pages: &mut Pages, page: usize| pages.write((page * PAGE_BYTES) as u64, &[2; PAGE_BYTES]);
    for page in 0..WRITTEN_PAGES_MAX {
        write(&mut pages, page).unwrap();
    }
    // A page that was changed already may be changed again.
    write(&mut pages, 0).unwrap();
    assert!(matches!(write(&mut pages, WRITTEN_PAGES_MAX), Err(PagesError::TooLarge)));
    // The memory is free again, and the transaction that SQLite now rolls back changes nothing.
    write(&mut pages, 1).unwrap();
    assert_eq!((first_page(&pages), pages.bytes()), ([1; PAGE_BYTES], PAGE_BYTES as u64));
    pages.refresh().unwrap();
    write(&mut pages, 1).unwrap();
    pages.commit().unwrap();
    assert_eq!(opened(&folder).bytes(), 2 * PAGE_BYTES as u64);
}
