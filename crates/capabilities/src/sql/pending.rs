//! A statement with its parameters, which the node holds for a guest until the statement has been executed.
//!
//! Until the statement has ended or its caller no longer waits, its size is charged to the tenant's memory, and is part
//! of the total size of the tenant's waiting and running statements.

use std::sync::Arc;

use isomer_display::size;
use isomer_runtime::{Account, HostMemory};

use super::{SqlError, SqlLimits, Value};
use crate::StorageAccount;

/// A statement with its parameters and charges.
pub(super) struct PendingStatement {
    pub(super) statement: String,
    pub(super) parameters: Vec<Value>,
    _waiting: StatementBytes,
    _charge: HostMemory,
}

/// The share of a statement in the total size of the tenant's waiting and running statements.
struct StatementBytes {
    storage: Arc<StorageAccount>,
    bytes: usize,
}

impl Drop for StatementBytes {
    fn drop(&mut self) {
        self.storage.statements.end(self.bytes);
    }
}

impl PendingStatement {
    /// Checks the sizes of the statement and its parameters, and charges them to the tenant.
    ///
    /// # Errors
    /// [`SqlError::TooLarge`] if the statement or a parameter exceeds its own limit, [`SqlError::Overloaded`] if the
    /// tenant's statements together exceed their limit, [`SqlError::Memory`] if the tenant's memory quota is exhausted.
    pub(super) fn new(
        statement: String,
        parameters: Vec<Value>,
        limits: &SqlLimits,
        storage: &Arc<StorageAccount>,
        account: &Arc<Account>,
    ) -> Result<Self, SqlError> {
        check_sizes(limits, &statement, &parameters)?;
        let values = parameters.iter().map(Value::heap_bytes).sum::<usize>();
        let bytes = size_of::<Self>() + statement.capacity() + parameters.capacity() * size_of::<Value>() + values;
        if !storage.statements.begin(bytes, limits.tenant_waiting_bytes_max) {
            return Err(SqlError::Overloaded);
        }
        let waiting = StatementBytes { storage: storage.clone(), bytes };
        let charge = account.charge_host_memory(bytes)?;
        Ok(Self { statement, parameters, _waiting: waiting, _charge: charge })
    }
}

fn check_sizes(limits: &SqlLimits, statement: &str, parameters: &[Value]) -> Result<(), SqlError> {
    if statement.len() > limits.statement_bytes_max {
        return Err(SqlError::TooLarge(format!(
            "the statement has {}, more than the maximum of {}",
            size(statement.len()),
            size(limits.statement_bytes_max)
        )));
    }
    if statement.contains('\0') {
        return Err(SqlError::Statement("the statement contains a NUL character".to_owned()));
    }
    if parameters.len() > limits.parameters_max {
        return Err(SqlError::TooLarge(format!(
            "the statement has {} parameters, more than the maximum of {}",
            parameters.len(),
            limits.parameters_max
        )));
    }
    for (index, parameter) in parameters.iter().enumerate() {
        let bytes = match parameter {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        };
        if bytes > limits.value_bytes_max {
            return Err(SqlError::TooLarge(format!(
                "parameter {} has {}, more than the maximum of {}",
                index + 1,
                size(bytes),
                size(limits.value_bytes_max)
            )));
        }
    }
    Ok(())
}
