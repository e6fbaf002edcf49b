//! The exported interfaces of `isomer:sql`.

use std::rc::Rc;

use crate::Provider;
use crate::exports::isomer::sql::{store, types};
use crate::settings::{Kind, settings};
use crate::writer::{OpenTransaction, SqlStore};

use types::{Error, Rows, Value};

pub(crate) struct Connection(Rc<SqlStore>);

pub(crate) struct Transaction(Rc<OpenTransaction>);

impl store::Guest for Provider {
    async fn open(name: String) -> Result<types::Connection, Error> {
        let name = settings().granted(Kind::Sql, &name).map_err(Error::AccessDenied)?;
        Ok(types::Connection::new(Connection(SqlStore::open(name).await?)))
    }
}

impl types::Guest for Provider {
    type Connection = Connection;
    type Transaction = Transaction;
}

impl types::GuestConnection for Connection {
    async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, Error> {
        self.0.execute(statement, parameters).await
    }

    async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, Error> {
        self.0.query(statement, parameters).await
    }

    async fn begin(&self) -> Result<types::Transaction, Error> {
        Ok(types::Transaction::new(Transaction(self.0.begin().await?)))
    }
}

impl types::GuestTransaction for Transaction {
    async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, Error> {
        self.0.execute(&statement, &parameters)
    }

    async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, Error> {
        self.0.query(&statement, &parameters)
    }

    async fn commit(this: types::Transaction) -> Result<(), Error> {
        this.get::<Self>().0.end(true)
    }

    async fn rollback(this: types::Transaction) -> Result<(), Error> {
        this.get::<Self>().0.end(false)
    }
}
