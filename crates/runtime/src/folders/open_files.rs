//! How many files and folders guests may have open at once. Each uses a descriptor of the process, which also needs
//! descriptors for connections and stores: a guest that opens files without end must not prevent the node from
//! accepting the clients of other tenants.
//!
//! All guests together may use a part of the process's descriptors. Each account may have `ACCOUNT_MIN` in any case. It
//! gets more only as long as at least as many are still free as it then has. So one account has at most half of them,
//! two have a third each, and a new account always finds some. An account without limits shares the process with no
//! other tenant, and its files are not counted.
//!
//! An [`OpenFile`] counts one descriptor and is kept with it: in the job of a call that opens a file, then next to the
//! handle until the handle is dropped; in a stream; in a granted folder, which all instances of a group share
//! (`folders/granted.rs`). So calls in flight count, and the number of open files is never recomputed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};

use crate::pool::Account;

/// The part of the process's descriptors that guests may use: one of this many.
const PART: usize = 4;

/// The number of descriptors that an account may always have, however many the other accounts have.
const ACCOUNT_MIN: usize = 16;

/// The minimum number of descriptors for guests, even if the process has few.
const GUESTS_MIN: usize = 8 * ACCOUNT_MIN;

/// The maximum number of descriptors for guests: more than all guests together need.
const GUESTS_MAX: usize = 1 << 20;

static OPEN: AtomicUsize = AtomicUsize::new(0);

static OPEN_MAX: LazyLock<usize> = LazyLock::new(|| {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most).unwrap_or(usize::MAX).saturating_div(PART).clamp(GUESTS_MIN, GUESTS_MAX)
});

/// One file or folder that a guest has open, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// `None` if the file is not counted.
    account: Option<Arc<Account>>,
}

impl OpenFile {
    /// Counts one more open file for `account`; `None` if the account has reached its limit.
    pub(crate) fn new(account: &Arc<Account>) -> Option<Self> {
        if account.has_all_memory() {
            return Some(Self { account: None });
        }
        let (held, open) = (account.open_files(), &OPEN);
        let may = |all: usize, own: usize| own <= ACCOUNT_MIN || own <= OPEN_MAX.saturating_sub(all);
        // Counts before it checks: two threads that want the last descriptor must not both get it.
        let own = held.fetch_add(1, Ordering::AcqRel) + 1;
        let all = open.fetch_add(1, Ordering::AcqRel) + 1;
        let file = Self { account: Some(account.clone()) };
        may(all, own).then_some(file)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.open_files().fetch_sub(1, Ordering::AcqRel);
            OPEN.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Locked by tests that open many files.
#[cfg(test)]
pub(crate) static MANY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::AccountLimits;

    fn account() -> Arc<Account> {
        Account::new("t".into(), AccountLimits { memory_bytes: 1 << 30, cpu_per_second: Duration::MAX })
    }

    #[test]
    fn an_account_leaves_files_to_others() {
        let _alone = MANY.blocking_lock();
        let (greedy, second, third) = (account(), account(), account());
        let all = |account: &Arc<Account>| std::iter::from_fn(|| OpenFile::new(account)).collect::<Vec<_>>();
        let first = all(&greedy);
        // Other tests may have some files open at the same time.
        assert!((*OPEN_MAX / 2 - 16..=*OPEN_MAX / 2).contains(&first.len()), "{}", first.len());
        let more = all(&second);
        assert!(more.len() >= *OPEN_MAX / 4 - 16, "{}", more.len());
        assert!(all(&third).len() >= ACCOUNT_MIN);
        let unlimited = Account::unlimited();
        let free: Vec<_> = (0..*OPEN_MAX).map(|_| OpenFile::new(&unlimited).unwrap()).collect();
        drop((first, more, free));
        assert_eq!(greedy.open_files().load(Ordering::Relaxed), 0);
        assert!(OpenFile::new(&third).is_some());
    }
}
