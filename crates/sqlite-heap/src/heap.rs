//! Heaps: the memory of SQLite, counted per owner, and the heap that the current thread has entered.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The unit, in bytes, in which a heap charges its account. Most allocations therefore do not call the account.
const STEP_BYTES: usize = 64 << 10;

/// The number of bytes beyond its use that a heap keeps charged, so that the heap does not release and charge the same
/// bytes again and again.
const SLACK_BYTES: usize = 4 * STEP_BYTES;

/// The account to which a heap charges its memory.
///
/// SQLite may hold locks while a heap calls the account, so an implementation must neither wait nor call SQLite.
pub trait HeapAccount: Send + Sync {
    /// Charges `bytes` to the account. Returns `false`, and charges nothing, if the account refuses.
    fn charge(&self, bytes: usize) -> bool;

    /// Charges `bytes` to the account without checking a limit.
    fn charge_unchecked(&self, bytes: usize);

    /// Subtracts `bytes` from the charge.
    fn release(&self, bytes: usize);
}

/// A counter of the memory that SQLite has allocated for one owner.
pub struct Heap {
    account: Box<dyn HeapAccount>,
    state: Mutex<HeapUse>,
}

#[derive(Default)]
struct HeapUse {
    used: usize,
    charged: usize,
}

/// The reason why an allocation of SQLite was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The allocation would exceed the `bytes_max` of [`Heap::enter`].
    Bound,
    /// The account of the heap refused the charge.
    Account,
}

/// The heap to which SQLite's allocations on the current thread are charged.
struct CurrentHeap {
    heap: Arc<Heap>,
    /// The number of bytes that the thread may still allocate; `None` if every allocation is allowed.
    left: Option<usize>,
    refusal: Option<Refusal>,
}

thread_local! {
    static CURRENT: RefCell<Option<CurrentHeap>> = const { RefCell::new(None) };
}

/// While this guard exists, SQLite's allocations on this thread are charged to the heap whose [`Heap::enter`] returned
/// it. When it is dropped, they are charged to the thread's previous heap again.
pub struct HeapGuard {
    before: Option<CurrentHeap>,
    /// Makes the guard `!Send`, because the thread that created the guard must drop it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Heap {
    /// Creates an empty heap that is charged to `account`.
    pub fn new(account: Box<dyn HeapAccount>) -> Arc<Self> {
        Arc::new(Self { account, state: Mutex::default() })
    }

    /// Returns the number of bytes that are allocated now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.state().used
    }

    /// Charges SQLite's allocations on this thread to this heap until the returned guard is dropped.
    ///
    /// If `bytes_max` is set, the use may grow by at most this number of bytes while the guard exists, and the account
    /// may refuse an allocation. If it is `None`, every allocation is allowed, for work that must succeed, such as a
    /// rollback.
    #[must_use]
    pub fn enter(self: &Arc<Self>, bytes_max: Option<usize>) -> HeapGuard {
        let current = CurrentHeap { heap: self.clone(), left: bytes_max, refusal: None };
        HeapGuard { before: CURRENT.replace(Some(current)), _not_send: std::marker::PhantomData }
    }

    fn state(&self) -> MutexGuard<'_, HeapUse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `bytes` to the use, and charges the account if necessary. Does not hold the lock while it calls the
    /// account. Returns whether the account accepted the charge; with `unchecked`, the account cannot refuse.
    fn grow(&self, bytes: usize, unchecked: bool) -> bool {
        loop {
            let missing = {
                let mut state = self.state();
                let used = state.used.saturating_add(bytes);
                if used <= state.charged {
                    state.used = used;
                    return true;
                }
                (used - state.charged).next_multiple_of(STEP_BYTES)
            };
            if unchecked {
                self.account.charge_unchecked(missing);
            } else if !self.account.charge(missing) {
                return false;
            }
            self.state().charged += missing;
        }
    }

    /// Subtracts `bytes` from the use, and releases the excess charge.
    pub(crate) fn shrink(&self, bytes: usize) {
        let excess = {
            let mut state = self.state();
            state.used = state.used.saturating_sub(bytes);
            let keep = state.used.next_multiple_of(STEP_BYTES);
            let excess = if state.charged > keep + SLACK_BYTES || keep == 0 { state.charged - keep } else { 0 };
            state.charged -= excess;
            excess
        };
        if excess > 0 {
            self.account.release(excess);
        }
    }
}

impl Drop for Heap {
    /// Every allocation holds a reference to its heap, so no byte is in use when a heap is dropped.
    fn drop(&mut self) {
        let charged = self.state().charged;
        if charged > 0 {
            self.account.release(charged);
        }
    }
}

/// Returns the reason for the last refusal of an allocation on this thread since the thread entered its current heap;
/// `None` if no allocation was refused.
#[must_use]
pub fn refusal() -> Option<Refusal> {
    CURRENT.with_borrow(|current| current.as_ref().and_then(|current| current.refusal))
}

impl Drop for HeapGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        drop(CURRENT.replace(before));
    }
}

/// Counts an allocation on this thread. Returns the thread's current heap; `None` if the thread has entered no heap.
///
/// # Errors
/// If the allocation would exceed the thread's bound, or the account refuses the charge.
pub(crate) fn allocate(bytes: usize) -> Result<Option<Arc<Heap>>, Refusal> {
    let current = CURRENT.try_with(|current| {
        let current = current.borrow();
        let current = current.as_ref()?;
        Some((current.heap.clone(), current.left))
    });
    // `current` is an error if the thread is being destroyed. Such a thread has no current heap, like a thread that has
    // entered none.
    let Ok(Some((heap, left))) = current else { return Ok(None) };
    let refusal = match left {
        Some(left) if left < bytes => Some(Refusal::Bound),
        // Catches panics of the account, because a panic must not unwind through SQLite.
        _ => match catch_unwind(AssertUnwindSafe(|| heap.grow(bytes, left.is_none()))) {
            Ok(true) => None,
            Ok(false) | Err(_) => Some(Refusal::Account),
        },
    };
    CURRENT.with_borrow_mut(|current| {
        if let Some(current) = current {
            match refusal {
                Some(_) => current.refusal = refusal,
                None => current.left = current.left.map(|left| left.saturating_sub(bytes)),
            }
        }
    });
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(Some(heap)),
    }
}

/// Adds `bytes`, by which a block of `heap` grows, to the use of `heap`. If this thread has entered a different heap or
/// none, the growth is not checked against a limit. Returns whether the block may grow.
pub(crate) fn grow_block(heap: &Arc<Heap>, bytes: usize) -> bool {
    let is_own =
        CURRENT.try_with(|current| current.borrow().as_ref().is_some_and(|current| Arc::ptr_eq(&current.heap, heap)));
    if is_own.unwrap_or(false) {
        return allocate(bytes).is_ok();
    }
    catch_unwind(AssertUnwindSafe(|| heap.grow(bytes, true))).unwrap_or(false)
}

/// Subtracts freed memory from the use of `heap`, and adds it to what this thread may allocate if `heap` is its current
/// heap.
pub(crate) fn free(heap: &Arc<Heap>, bytes: usize) {
    heap.shrink(bytes);
    let _ = CURRENT.try_with(|current| {
        if let Some(current) = current.borrow_mut().as_mut()
            && Arc::ptr_eq(&current.heap, heap)
        {
            current.left = current.left.map(|left| left.saturating_add(bytes));
        }
    });
}
