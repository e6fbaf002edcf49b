//! Lets writers of one store wait for each other, in this instance and in others.
//!
//! The lock is a file that is created exclusively and contains the time at which it expires. Its holder extends this time
//! with each step and while a step runs ([`extend_held`]), so that the lock of a holder that has ended blocks others only for a
//! short time. The lock prevents work
//! that would be rolled back; correctness does not depend on it (see `pages`).

use std::cell::{Cell, RefCell};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::random;

/// The time after which a lock that its holder has not extended expires.
const LEASE: Duration = Duration::from_secs(4);
/// The time after which the holder extends the lock.
const EXTENDED_AFTER: Duration = Duration::from_secs(1);

/// A held lock. It is released when this value is dropped.
pub(crate) struct Lock(Rc<Held>);

struct Held {
    path: PathBuf,
    content: RefCell<String>,
    extended: Cell<Instant>,
}

thread_local! {
    /// The locks that this instance holds: at most one for each store.
    static HELD: RefCell<Vec<Weak<Held>>> = RefCell::default();
}

/// Extends the locks that this instance holds. Called often during long work, such as a migration. Returns at once if the locks
/// were extended a short time ago.
pub(crate) fn extend_held() {
    HELD.with_borrow(|held| held.iter().filter_map(Weak::upgrade).for_each(|held| held.extend()));
}

impl Lock {
    /// Takes the lock of the store in `dir`. Returns `None` if another writer holds it.
    pub(crate) fn try_take(dir: &Path) -> std::io::Result<Option<Self>> {
        let path = dir.join("lock");
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                let held = Held { path, content: RefCell::new(content()), extended: Cell::new(Instant::now()) };
                file.write_all(held.content.borrow().as_bytes())?;
                let held = Rc::new(held);
                HELD.with_borrow_mut(|all| {
                    all.retain(|other| other.strong_count() > 0);
                    all.push(Rc::downgrade(&held));
                });
                Ok(Some(Self(held)))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                remove_expired(dir, &path);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Extends the time of the lock, unless another writer has taken it. Called before each step of the holder.
    pub(crate) fn extend(&self) {
        self.0.extend();
    }
}

impl Held {
    fn extend(&self) {
        if self.extended.get().elapsed() < EXTENDED_AFTER || !self.is_held() {
            return;
        }
        let content = content();
        if fs::write(&self.path, &content).is_ok() {
            self.content.replace(content);
            self.extended.set(Instant::now());
        }
    }

    fn is_held(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|content| content == *self.content.borrow())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // If the lock has expired, another writer may hold it now.
        if self.is_held() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the content of a lock that is taken or extended now: the time at which it expires, and a random name.
fn content() -> String {
    format!("{} {}\n", now_ms().saturating_add(millis(LEASE)), random::name())
}

fn remove_expired(dir: &Path, path: &Path) {
    let Ok(content) = fs::read_to_string(path) else { return };
    let expires = content.split(' ').next().and_then(|text| text.parse::<u64>().ok());
    let expired = match expires {
        Some(expires) => now_ms() > expires,
        // The holder ended before it wrote the time, or is about to write it.
        None => fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > LEASE)),
    };
    if expired {
        let gone = dir.join(format!("tmp-{}", random::name()));
        if fs::rename(path, &gone).is_ok() {
            let _ = fs::remove_file(&gone);
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
