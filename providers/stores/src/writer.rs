//! An open SQL store: its two connections, and the transactions that hold the writing one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::exports::isomer::sql::types::{Error, Rows, Value};
use crate::lock::Lock;
use crate::migrations;
use crate::session::{
    MIGRATION_TIME, Session, TRANSACTION_TIME, VALUE_BYTES_MAX, WAIT_TIME, WAITING_WRITES_MAX, check_sizes,
};
use crate::settings::{Kind, settings};
use crate::wasi::clocks::monotonic_clock;

/// The first and the longest pause between two attempts to get the writing connection.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

pub(crate) struct SqlStore {
    dir: PathBuf,
    statement_time: Option<Duration>,
    /// The reading connection, which sees the last committed state.
    reader: RefCell<Option<Session>>,
    /// The writing connection; `None` while a writer uses it, and before it is opened.
    writer: RefCell<Option<Session>>,
    is_writing: Cell<bool>,
    waiting: Cell<usize>,
    transaction: RefCell<Weak<OpenTransaction>>,
}

thread_local! {
    static OPEN: RefCell<HashMap<String, Rc<SqlStore>>> = RefCell::default();
}

impl SqlStore {
    /// Opens a store and applies its migrations, unless this instance has done so already.
    pub(crate) async fn open(name: &str) -> Result<Rc<Self>, Error> {
        if let Some(store) = OPEN.with_borrow(|open| open.get(name).cloned()) {
            return Ok(store);
        }
        let of_store = settings().sql(name);
        let store = Rc::new(Self {
            dir: settings().folder(Kind::Sql, name).map_err(Error::Store)?,
            statement_time: of_store.and_then(|settings| settings.statement_ms).map(Duration::from_millis),
            reader: RefCell::default(),
            writer: RefCell::default(),
            is_writing: Cell::default(),
            waiting: Cell::default(),
            transaction: RefCell::default(),
        });
        if let Some(files) = of_store.map(|settings| &settings.migrations).filter(|files| !files.is_empty()) {
            let is_pending =
                store.with_reader(|session| migrations::is_pending(session, name, files).map_err(Error::Store))?;
            if is_pending {
                // Another instance may be applying the migrations.
                let lease = lease(&store, MIGRATION_TIME).await?;
                if let Err(message) = migrations::apply(lease.session(), name, files) {
                    eprintln!("error: {message}");
                    return Err(Error::Store(message));
                }
            }
        }
        Ok(OPEN.with_borrow_mut(|open| open.entry(name.to_owned()).or_insert(store).clone()))
    }

    fn connect(&self) -> Result<Session, Error> {
        Session::open(&self.dir, self.statement_time, VALUE_BYTES_MAX)
    }

    fn with_reader<T>(&self, work: impl FnOnce(&Session) -> Result<T, Error>) -> Result<T, Error> {
        let session = match self.reader.take() {
            Some(session) => session,
            None => self.connect()?,
        };
        let result = work(&session);
        self.reader.replace(Some(session));
        result
    }

    pub(crate) async fn execute(self: &Rc<Self>, statement: String, parameters: Vec<Value>) -> Result<u64, Error> {
        check_sizes(&statement, &parameters)?;
        lease(self, WAIT_TIME).await?.session().execute(&statement, &parameters, None)
    }

    pub(crate) async fn query(self: &Rc<Self>, statement: String, parameters: Vec<Value>) -> Result<Rows, Error> {
        check_sizes(&statement, &parameters)?;
        if let Some(rows) = self.with_reader(|session| session.read(&statement, &parameters))? {
            return Ok(rows);
        }
        lease(self, WAIT_TIME).await?.session().query(&statement, &parameters, None)
    }

    pub(crate) async fn begin(self: &Rc<Self>) -> Result<Rc<OpenTransaction>, Error> {
        let lease = lease(self, WAIT_TIME).await?;
        lease.session().internal("BEGIN IMMEDIATE")?;
        let open = Rc::new(OpenTransaction {
            lease: RefCell::new(Some(lease)),
            expired: Cell::new(false),
            deadline: Instant::now() + TRANSACTION_TIME,
        });
        self.transaction.replace(Rc::downgrade(&open));
        Ok(open)
    }

    /// Ends the open transaction if its time is over, because its holder may never call again.
    fn expire(&self) {
        let Some(open) = self.transaction.borrow().upgrade() else { return };
        if open.deadline <= Instant::now() {
            let lease = open.lease.take();
            open.expired.set(open.expired.get() || lease.is_some());
        }
    }
}

/// The right to write to a store: the lock of the store, and its writing connection.
struct WriterLease {
    store: Rc<SqlStore>,
    session: Option<Session>,
    lock: Lock,
}

/// Waits until this caller may write, at most for `wait_max`.
async fn lease(store: &Rc<SqlStore>, wait_max: Duration) -> Result<WriterLease, Error> {
    if store.waiting.get() >= WAITING_WRITES_MAX {
        return Err(Error::Overloaded);
    }
    let _waiting = Waiting::begin(store.clone());
    let (start, mut pause) = (Instant::now(), PAUSES.0);
    loop {
        store.expire();
        if !store.is_writing.get() {
            let taken = Lock::try_take(&store.dir);
            if let Some(lock) = taken.map_err(|error| Error::Store(format!("the store cannot be locked: {error}")))? {
                let session = match store.writer.take() {
                    Some(session) => session,
                    None => store.connect()?,
                };
                store.is_writing.set(true);
                return Ok(WriterLease { store: store.clone(), session: Some(session), lock });
            }
        }
        if start.elapsed() >= wait_max {
            return Err(Error::Overloaded);
        }
        monotonic_clock::wait_for(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Counts one waiting caller until this value is dropped.
struct Waiting(Rc<SqlStore>);

impl Waiting {
    fn begin(store: Rc<SqlStore>) -> Self {
        store.waiting.set(store.waiting.get() + 1);
        Self(store)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl WriterLease {
    fn session(&self) -> &Session {
        self.session.as_ref().expect("a lease has its connection until it is dropped")
    }
}

impl Drop for WriterLease {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.roll_back();
            // A connection that could not be rolled back is closed, which drops its changes.
            if !session.in_transaction() {
                self.store.writer.replace(Some(session));
            }
        }
        self.store.is_writing.set(false);
    }
}

pub(crate) struct OpenTransaction {
    lease: RefCell<Option<WriterLease>>,
    expired: Cell<bool>,
    deadline: Instant,
}

impl OpenTransaction {
    pub(crate) fn execute(&self, statement: &str, parameters: &[Value]) -> Result<u64, Error> {
        check_sizes(statement, parameters)?;
        self.step(|session| session.execute(statement, parameters, Some(self.deadline)))
    }

    pub(crate) fn query(&self, statement: &str, parameters: &[Value]) -> Result<Rows, Error> {
        check_sizes(statement, parameters)?;
        self.step(|session| session.query(statement, parameters, Some(self.deadline)))
    }

    /// Ends the transaction, and commits its changes if `commit` is true.
    pub(crate) fn end(&self, commit: bool) -> Result<(), Error> {
        let lease = self.lease.take().ok_or_else(|| self.gone())?;
        let session = lease.session();
        if !session.in_transaction() {
            return if commit { Err(undone()) } else { Ok(()) };
        }
        if commit && self.deadline <= Instant::now() {
            return Err(Error::Timeout);
        }
        lease.lock.extend();
        session.internal(if commit { "COMMIT" } else { "ROLLBACK" })
    }

    fn step<T>(&self, work: impl FnOnce(&Session) -> Result<T, Error>) -> Result<T, Error> {
        let lease = self.lease.borrow();
        let Some(lease) = lease.as_ref() else { return Err(self.gone()) };
        if !lease.session().in_transaction() {
            return Err(undone());
        }
        if self.deadline <= Instant::now() {
            return Err(Error::Timeout);
        }
        lease.lock.extend();
        work(lease.session())
    }

    fn gone(&self) -> Error {
        if self.expired.get() { Error::Timeout } else { Error::Store("the transaction has ended".to_owned()) }
    }
}

fn undone() -> Error {
    Error::Store("the transaction was rolled back because an earlier statement failed".to_owned())
}
