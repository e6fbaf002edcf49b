//! The limit on the number of files and folders that guests may have open at the same time. Each open file uses a
//! descriptor of the process, which also needs descriptors for connections and stores. A guest that opens files without
//! end must not prevent the node from accepting the clients of other tenants.
//!
//! All guests together may use up to `OPEN_MAX` descriptors: a quarter of the process's limit. An account may always
//! have `ACCOUNT_MIN` files open. It may have more only as long as the number of its open files does not exceed the
//! number of descriptors that remain free for guests. So one account by itself gets at most half of `OPEN_MAX`, two
//! accounts get at most a third each, and a new account always finds free descriptors. The files of an account without
//! limits are not counted, because such an account shares its process with no other tenant.
//!
//! An [`OpenFile`] counts one descriptor, and is stored together with the descriptor. While a file is being opened,
//! this is in the job of the call; afterwards, it is next to the file's handle. Each stream and each granted folder
//! also contains an `OpenFile`; all instances of a group share the granted folder (`folders/granted.rs`). So calls in
//! flight are counted too, and the number of open files never has to be recomputed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};

use crate::pool::Account;

/// The limit on the process's descriptors is divided by this number: guests may use a quarter of them.
const PART: usize = 4;

/// The number of descriptors that an account may always have, whatever the other accounts use.
const ACCOUNT_MIN: usize = 16;

/// The minimum number of descriptors for all guests together, even if the process's descriptor limit is low.
const GUESTS_MIN: usize = 8 * ACCOUNT_MIN;

/// The maximum number of descriptors for all guests together. Guests never need more.
const GUESTS_MAX: usize = 1 << 20;

static OPEN: AtomicUsize = AtomicUsize::new(0);

static OPEN_MAX: LazyLock<usize> = LazyLock::new(|| {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most).unwrap_or(usize::MAX).saturating_div(PART).clamp(GUESTS_MIN, GUESTS_MAX)
});

/// The permit for one open file or folder of a guest. The file is counted until this value is dropped.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The account whose open files include this one; `None` if the account's files are not counted.
    account: Option<Arc<Account>>,
}

impl OpenFile {
    /// Counts one more open file of `account`. Returns `None` if the account has reached its limit.
    pub(crate) fn new(account: &Arc<Account>) -> Option<Self> {
        if account.has_all_memory() {
            return Some(Self { account: None });
        }
        let (held, open) = (account.open_files(), &OPEN);
        let may = |all: usize, own: usize| own <= ACCOUNT_MIN || own <= OPEN_MAX.saturating_sub(all);
        // The counters are increased before the check, so that two threads cannot both get the last descriptor.
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

/// A lock for tests that open many files, which must not run at the same time.
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
        // The number is not exact, because tests that run at the same time may have a few files open.
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
