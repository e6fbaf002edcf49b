//! An operation of the admin API: its input and output, its access rule, and the function that runs it.
//!
//! The constructors of an operation take the types of its input and output as type parameters. So the OpenAPI document,
//! which is generated from these types, always agrees with the implementation.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{BoxStream, Stream, StreamExt as _};
use http::Method;
use isomer_api::{ApiProblem, ResponseCharge};
use isomer_ids::ReleaseDigest;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access_rule::AccessRule;
use crate::app_api::{AdminReply, AppApi, MetricsText};
use crate::arguments::{Arguments, PathNames};

/// The default maximum size in bytes of a JSON body. [`Operation::at_most`] sets another maximum.
pub(crate) const JSON_BYTES_MAX: u64 = 256 << 10;

/// A function that generates the schema of a type.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// An operation of the API, which calls a function of `A`.
pub(crate) struct Operation<A: ?Sized> {
    /// The operation's name in the OpenAPI document and in the audit log.
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    /// The path: one of [`isomer_api::routes`].
    pub(crate) path: &'static str,
    /// A summary of the operation in one sentence, without a full stop at its end.
    pub(crate) about: &'static str,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// Whether the operation is an action: it changes something, and has lines in the audit log.
    pub(crate) changes: bool,
    /// Whether the operation changes nothing, but has lines in the audit log, because it reads the content of stores.
    pub(crate) is_recorded: bool,
    /// Whether the audit log contains only the status of a problem and not its title, which may repeat parts of a
    /// statement or of stored data.
    pub(crate) hides_problems: bool,
    /// The callers that may call the operation. The default is [`AccessRule::Node`]; [`Operation::open_to`] changes it.
    pub(crate) rule: AccessRule,
    pub(crate) run: Run<A>,
}

/// A function that checks the arguments of an operation, and returns the operation ready to run.
type Run<A> = Box<dyn Fn(Arc<A>, &PathNames, Arguments) -> Result<PreparedOperation, ApiProblem> + Send + Sync>;

/// A function that implements an operation whose only arguments are the names in its path.
type PlainFn<R, A> = fn(Arc<A>, &PathNames) -> Result<AdminReply<R>, ApiProblem>;
/// A function that implements an operation without a result.
type EmptyFn<A> = fn(Arc<A>, &PathNames, Arguments) -> Result<AdminReply<()>, ApiProblem>;
/// A function that implements an operation with a query.
type QueryFn<Q, R, A> = fn(Arc<A>, &PathNames, Q) -> Result<AdminReply<R>, ApiProblem>;
/// A function that implements an operation with a query or a JSON body. It also returns the details for the audit log.
type AuditedFn<Q, R, A> = fn(Arc<A>, &PathNames, Q) -> Result<(AdminReply<R>, Value), ApiProblem>;

/// An operation with checked arguments that has not started yet.
pub(crate) struct PreparedOperation {
    /// The arguments in the form in which the audit log records them.
    pub(crate) details: Value,
    pub(crate) answer: BoxFuture<'static, Result<OperationResult, ApiProblem>>,
}

/// The input of an operation, in addition to the names in its path.
pub(crate) enum Input {
    Nothing,
    /// Parameters in the query.
    Query(SchemaOf),
    /// A JSON body.
    Json {
        schema: SchemaOf,
        bytes_max: u64,
    },
    /// A body of bytes, which is read into memory before the operation starts.
    Bytes {
        about: &'static str,
        bytes_max: u64,
    },
    /// A body of bytes, which the operation reads as a stream.
    Stream {
        about: &'static str,
        bytes_max: u64,
    },
}

/// The kind of an operation's output, for the OpenAPI document.
pub(crate) enum Output {
    Nothing,
    Json(SchemaOf),
    /// A stream of JSON objects, one per line.
    Lines(SchemaOf),
    /// Text of one of these media types.
    Text(&'static [&'static str]),
    /// The OpenAPI document.
    Document,
}

/// The output of an operation that was run.
pub(crate) enum OperationResult {
    Nothing,
    Json {
        text: Vec<u8>,
        /// The charge for the memory of the result, which must be kept until the response was sent.
        charge: ResponseCharge,
    },
    /// JSON objects, each with a newline.
    Lines(BoxStream<'static, Bytes>),
    Text(MetricsText),
    /// The OpenAPI document.
    Document,
    /// A one-time code that opens the dashboard with the rights of the caller.
    DashboardCode,
}

impl<A: ?Sized> Operation<A> {
    pub(crate) fn changes(mut self) -> Self {
        self.changes = true;
        self
    }

    pub(crate) fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self.hides_problems()
    }

    pub(crate) fn hides_problems(mut self) -> Self {
        self.hides_problems = true;
        self
    }

    pub(crate) fn open_to(mut self, rule: AccessRule) -> Self {
        self.rule = rule;
        self
    }

    pub(crate) fn takes(mut self, taken: Input) -> Self {
        self.input = taken;
        self
    }

    pub(crate) fn at_most(mut self, most: u64) -> Self {
        if let Input::Json { bytes_max, .. } = &mut self.input {
            *bytes_max = most;
        }
        self
    }
}

impl OperationResult {
    /// Returns the field `revision` of a JSON object; `None` if there is no such field.
    pub(crate) fn revision(&self) -> Option<ReleaseDigest> {
        #[derive(Deserialize)]
        struct WithRevision {
            revision: String,
        }
        let Self::Json { text, .. } = self else { return None };
        serde_json::from_slice::<WithRevision>(text).ok()?.revision.parse().ok()
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Creates an operation whose only arguments are the names in its path.
pub(crate) fn plain<R: JsonSchema + Serialize + 'static, A: ?Sized + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: PlainFn<R, A>,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, _| Ok(work(run(admin, named)?, Value::Null)));
    Operation {
        id,
        method,
        path,
        about,
        input: Input::Nothing,
        output: Output::Json(schema_of::<R>),
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates an operation without a response body.
pub(crate) fn empty<A: ?Sized + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: EmptyFn<A>,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, given| Ok(nothing(run(admin, named, given)?, Value::Null)));
    Operation {
        id,
        method,
        path,
        about,
        input: Input::Nothing,
        output: Output::Nothing,
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates an operation with a JSON body. `run` also returns the details for the audit log.
pub(crate) fn json_in<
    Q: JsonSchema + DeserializeOwned + 'static,
    R: JsonSchema + Serialize + 'static,
    A: ?Sized + 'static,
>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: AuditedFn<Q, R, A>,
) -> Operation<A> {
    charged_json_in(id, method, path, about, run, |_| ResponseCharge::default())
}

/// Creates an operation with a JSON body, whose result is charged to a tenant. `charge_of` returns the charge.
pub(crate) fn charged_json_in<
    Q: JsonSchema + DeserializeOwned + 'static,
    R: JsonSchema + Serialize + 'static,
    A: ?Sized + 'static,
>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: AuditedFn<Q, R, A>,
    charge_of: fn(&R) -> ResponseCharge,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, given| {
        let (reply, details) = run(admin, named, given.json()?)?;
        Ok(charged_work(reply, details, charge_of))
    });
    let input = Input::Json { schema: schema_of::<Q>, bytes_max: JSON_BYTES_MAX };
    Operation {
        id,
        method,
        path,
        about,
        input,
        output: Output::Json(schema_of::<R>),
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates an operation with a JSON body and without a response body.
pub(crate) fn json_in_only<Q: JsonSchema + DeserializeOwned + 'static, A: ?Sized + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: QueryFn<Q, (), A>,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, given| Ok(nothing(run(admin, named, given.json()?)?, Value::Null)));
    let input = Input::Json { schema: schema_of::<Q>, bytes_max: JSON_BYTES_MAX };
    Operation {
        id,
        method,
        path,
        about,
        input,
        output: Output::Nothing,
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates an operation with a query.
pub(crate) fn query<
    Q: JsonSchema + DeserializeOwned + 'static,
    R: JsonSchema + Serialize + 'static,
    A: ?Sized + 'static,
>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: QueryFn<Q, R, A>,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, given| Ok(work(run(admin, named, given.query()?)?, Value::Null)));
    let (input, output) = (Input::Query(schema_of::<Q>), Output::Json(schema_of::<R>));
    Operation {
        id,
        method,
        path,
        about,
        input,
        output,
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates an operation with a query and without a response body.
pub(crate) fn query_only<Q: JsonSchema + DeserializeOwned + 'static, A: ?Sized + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: AuditedFn<Q, (), A>,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, given| {
        let (reply, details) = run(admin, named, given.query()?)?;
        Ok(nothing(reply, details))
    });
    Operation {
        id,
        method,
        path,
        about,
        input: Input::Query(schema_of::<Q>),
        output: Output::Nothing,
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates an operation with a query. The operation returns a stream of JSON objects, one per line.
pub(crate) fn lines<
    Q: JsonSchema + DeserializeOwned + 'static,
    S: Stream<Item: JsonSchema + Serialize> + Send + 'static,
    A: ?Sized + 'static,
>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: QueryFn<Q, S, A>,
) -> Operation<A> {
    let run: Run<A> = Box::new(move |admin, named, given| {
        let reply = run(admin, named, given.query()?)?;
        let answer = reply.map(|items| Ok(OperationResult::Lines(items?.map(|item| json_line(&item)).boxed())));
        Ok(PreparedOperation { details: Value::Null, answer: answer.boxed() })
    });
    let (input, output) = (Input::Query(schema_of::<Q>), Output::Lines(schema_of::<S::Item>));
    Operation {
        id,
        method,
        path,
        about,
        input,
        output,
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates the operation that returns metrics as text.
pub(crate) fn metrics_text<A: AppApi + ?Sized>(
    id: &'static str,
    path: &'static str,
    about: &'static str,
) -> Operation<A> {
    let run: Run<A> = Box::new(|api, named, given| {
        let reply = api.metrics_text(named.caller()?.tenant().cloned(), given.accept);
        let answer = reply.map(|text| text.map(OperationResult::Text)).boxed();
        Ok(PreparedOperation { details: Value::Null, answer })
    });
    Operation {
        id,
        method: Method::GET,
        path,
        about,
        input: Input::Nothing,
        output: Output::Text(&["text/plain", "application/openmetrics-text"]),
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates the operation that returns the OpenAPI document. It does not call the node.
pub(crate) fn document<A: ?Sized + 'static>(id: &'static str, path: &'static str, about: &'static str) -> Operation<A> {
    let run: Run<A> = Box::new(|_, _, _| {
        let answer = async { Ok(OperationResult::Document) }.boxed();
        Ok(PreparedOperation { details: Value::Null, answer })
    });
    Operation {
        id,
        method: Method::GET,
        path,
        about,
        input: Input::Nothing,
        output: Output::Document,
        changes: false,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

/// Creates the operation that returns a one-time code for the dashboard. The operation does not call the node.
pub(crate) fn dashboard_code<A: ?Sized + 'static>(
    id: &'static str,
    path: &'static str,
    about: &'static str,
) -> Operation<A> {
    let run: Run<A> = Box::new(|_, _, _| {
        let answer = async { Ok(OperationResult::DashboardCode) }.boxed();
        Ok(PreparedOperation { details: Value::Null, answer })
    });
    Operation {
        id,
        method: Method::POST,
        path,
        about,
        input: Input::Nothing,
        output: Output::Json(schema_of::<isomer_api::DashboardCode>),
        changes: true,
        is_recorded: false,
        hides_problems: false,
        rule: AccessRule::Node,
        run,
    }
}

fn work<R: Serialize + 'static>(reply: AdminReply<R>, details: Value) -> PreparedOperation {
    charged_work(reply, details, |_| ResponseCharge::default())
}

fn charged_work<R: Serialize + 'static>(
    reply: AdminReply<R>,
    details: Value,
    charge_of: fn(&R) -> ResponseCharge,
) -> PreparedOperation {
    let answer = reply.map(move |given| {
        let given = given?;
        let text = serde_json::to_vec(&given).expect("the result of an operation is plain data");
        Ok(OperationResult::Json { text, charge: charge_of(&given) })
    });
    PreparedOperation { details, answer: answer.boxed() }
}

fn nothing(reply: AdminReply<()>, details: Value) -> PreparedOperation {
    PreparedOperation { details, answer: reply.map(|done| done.map(|()| OperationResult::Nothing)).boxed() }
}

fn json_line(item: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(item).expect("an item of a stream is plain data");
    text.push(b'\n');
    text.into()
}

/// Returns the names of the path parameters: those in braces.
pub(crate) fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}
