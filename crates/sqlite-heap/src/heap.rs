//! Heaps, and the heap that each thread allocates for.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The unit in which a heap is charged, so that most allocations do not need the account.
const STEP_BYTES: usize = 64 << 10;

/// The bytes that a heap keeps charged in addition to its use, so that it does not release and charge them repeatedly.
const SLACK_BYTES: usize = 4 * STEP_BYTES;

/// The account that a heap is charged to.
///
/// Called while SQLite allocates or frees, possibly with locks of SQLite held: an implementation must neither wait nor
/// call SQLite.
pub trait HeapAccount: Send + Sync {
    /// Charges `bytes` more. Returns `false` if the charge is refused.
    fn charge(&self, bytes: usize) -> bool;

    /// Charges `bytes` more without a check.
    fn charge_unchecked(&self, bytes: usize);

    /// Releases `bytes`.
    fn release(&self, bytes: usize);
}

/// The memory that SQLite has allocated for one owner.
pub struct Heap {
    account: Box<dyn HeapAccount>,
    state: Mutex<HeapUse>,
}

#[derive(Default)]
struct HeapUse {
    used: usize,
    charged: usize,
}

/// The reason why memory was refused to SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The bound of the statement was reached.
    Bound,
    /// The heap's account refused.
    Account,
}

/// The heap that a thread allocates for.
struct CurrentHeap {
    heap: Arc<Heap>,
    /// The bytes that may still be allocated; `None` if no allocation may be refused.
    left: Option<usize>,
    refusal: Option<Refusal>,
}

thread_local! {
    static CURRENT: RefCell<Option<CurrentHeap>> = const { RefCell::new(None) };
}

/// Makes its thread allocate for a heap until this is dropped.
pub struct HeapGuard {
    before: Option<CurrentHeap>,
    /// Makes the guard not `Send`: it must be dropped by the thread that created it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Heap {
    /// Creates an empty heap that is charged to `account`.
    pub fn new(account: Box<dyn HeapAccount>) -> Arc<Self> {
        Arc::new(Self { account, state: Mutex::default() })
    }

    /// Returns the number of allocated bytes.
    #[must_use]
    pub fn used(&self) -> usize {
        self.state().used
    }

    /// Makes SQLite's allocations on this thread belong to this heap until the returned guard is dropped.
    ///
    /// With `bytes_max`, at most that many bytes more may be in use, and the account may refuse an allocation. Without
    /// it, no allocation is refused: for work that must succeed, such as a rollback.
    #[must_use]
    pub fn enter(self: &Arc<Self>, bytes_max: Option<usize>) -> HeapGuard {
        let current = CurrentHeap { heap: self.clone(), left: bytes_max, refusal: None };
        HeapGuard { before: CURRENT.replace(Some(current)), _not_send: std::marker::PhantomData }
    }

    fn state(&self) -> MutexGuard<'_, HeapUse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes` more. The account is charged while the lock is not held.
    fn grow(&self, bytes: usize, anyway: bool) -> bool {
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
            if anyway {
                self.account.charge_unchecked(missing);
            } else if !self.account.charge(missing) {
                return false;
            }
            self.state().charged += missing;
        }
    }

    /// Counts `bytes` less.
    pub(crate) fn shrink(&self, bytes: usize) {
        let given = {
            let mut state = self.state();
            state.used = state.used.saturating_sub(bytes);
            let keep = state.used.next_multiple_of(STEP_BYTES);
            let give = if state.charged > keep + SLACK_BYTES || keep == 0 { state.charged - keep } else { 0 };
            state.charged -= give;
            give
        };
        if given > 0 {
            self.account.release(given);
        }
    }
}

impl Drop for Heap {
    /// Every allocation holds a reference to its heap, so no byte is in use here.
    fn drop(&mut self) {
        let charged = self.state().charged;
        if charged > 0 {
            self.account.release(charged);
        }
    }
}

/// Returns the reason why memory was refused on this thread since its current heap was entered; `None` if none was
/// refused.
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

/// Counts an allocation of this thread. Returns the heap that the allocation belongs to, if there is one.
///
/// # Errors
/// When the allocation is refused.
pub(crate) fn allocate(bytes: usize) -> Result<Option<Arc<Heap>>, Refusal> {
    let asked = CURRENT.try_with(|current| {
        let current = current.borrow();
        let current = current.as_ref()?;
        Some((current.heap.clone(), current.left))
    });
    // A thread that is ending has no heap.
    let Ok(Some((heap, left))) = asked else { return Ok(None) };
    let refusal = match left {
        Some(left) if left < bytes => Some(Refusal::Bound),
        // A panic of an account must not unwind through SQLite.
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

/// Counts `bytes` that a block of `heap` grows by on this thread, which may have entered another heap, or none.
pub(crate) fn grow_block(heap: &Arc<Heap>, bytes: usize) -> bool {
    let is_own =
        CURRENT.try_with(|current| current.borrow().as_ref().is_some_and(|current| Arc::ptr_eq(&current.heap, heap)));
    if is_own.unwrap_or(false) {
        return allocate(bytes).is_ok();
    }
    catch_unwind(AssertUnwindSafe(|| heap.grow(bytes, true))).unwrap_or(false)
}

/// Counts memory that is freed on this thread.
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
