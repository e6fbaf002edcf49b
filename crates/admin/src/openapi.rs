//! The OpenAPI 3.1 document of the admin API. It is generated from the table of operations and their types.

use std::collections::BTreeMap;

use isomer_display::size;
use isomer_ids::SECRET_NAME_PATTERN;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::operation::{Input, Operation, Output, names_in};
use crate::operations;

const ABOUT: &str = "The admin API of a node, for its operators and its tenants. It listens on a Unix socket or on a TCP address of its own, by default a loopback address. \
Every request must have a token in the header `Authorization: Bearer TOKEN`: the node's token, from `admin.token` in the node's data directory, \
or a tenant's token (`create-token`), for operations that accept it. \
Requests from browsers (with the header `Origin`) and requests for other host names are refused.\n\n\
To deploy, a client requests which parts of a release the node lacks (`missing`), \
uploads these parts (`put-blob`), then deploys the same release (`deploy`).";

/// Returns the OpenAPI document of a node's admin API.
#[must_use]
pub fn document() -> Value {
    document_of(&operations::all())
}

/// Returns the OpenAPI document of an admin API that has these operations.
pub(crate) fn document_of<A: ?Sized>(operations: &[Operation<A>]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| parameters_of(operation.path, &mut generator));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation, &mut generator);
    }
    let problem = generator.subschema_for::<isomer_api::ApiProblem>();
    let responses = json!({
        "problem": {
            "description": "The request was refused, or the node failed. `type` states the kind of problem, which determines the status: see `ProblemKind`.",
            "content": { "application/problem+json": { "schema": problem } },
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The admin API of an Isomer node",
            "version": "1",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{ "url": "http://127.0.0.1:7171", "description": "the default address of a node" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": responses,
            "schemas": generator.take_definitions(true),
        },
    })
}

/// Returns the path parameters, which all operations of a path have in common.
fn parameters_of(path: &str, generator: &mut SchemaGenerator) -> Value {
    let parameters: Vec<Value> = names_in(path).map(|name| path_parameter(name, generator)).collect();
    if parameters.is_empty() { json!({}) } else { json!({ "parameters": parameters }) }
}

fn path_parameter(name: &str, generator: &mut SchemaGenerator) -> Value {
    let schema = match name {
        "tenant" => generator.subschema_for::<isomer_ids::TenantName>().to_value(),
        "app" => generator.subschema_for::<isomer_ids::AppName>().to_value(),
        "token" => generator.subschema_for::<isomer_ids::TokenName>().to_value(),
        "trace" => {
            json!({ "type": "string", "pattern": "^([0-9a-f]{16}|[0-9a-f]{32})$", "description": "The id of a trace or of a request." })
        }
        "store" => generator.subschema_for::<isomer_ids::StoreName>().to_value(),
        "digest" => generator.subschema_for::<isomer_ids::Digest>().to_value(),
        _ => json!({ "type": "string", "pattern": SECRET_NAME_PATTERN, "description": "The name of a secret." }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn describe<A: ?Sized>(operation: &Operation<A>, generator: &mut SchemaGenerator) -> Value {
    let (status, mut answer) = match operation.output {
        Output::Nothing => ("204", json!({ "description": "Done." })),
        Output::Document => {
            ("200", json!({ "description": "OpenAPI.", "content": { "application/json": { "schema": {} } } }))
        }
        Output::Json(schema) => ("200", content("Done.", "application/json", schema(generator).to_value())),
        Output::Text(media_types) => {
            let contents =
                media_types.iter().map(|media_type| (*media_type, json!({ "schema": { "type": "string" } })));
            ("200", json!({ "description": "Text.", "content": contents.collect::<BTreeMap<_, _>>() }))
        }
        Output::Lines(schema) => {
            ("200", content("One JSON object per line.", "application/x-ndjson", schema(generator).to_value()))
        }
    };
    if operation.changes || operation.is_recorded {
        let described = answer["description"].as_str().unwrap_or_default();
        answer["description"] = format!("{described} The operation is recorded in the audit log.").into();
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "description": operation.rule.about(),
        "responses": { status: answer, "default": { "$ref": "#/components/responses/problem" } },
    });
    match operation.input {
        Input::Nothing => {}
        Input::Query(schema) => described["parameters"] = query_parameters(schema, generator),
        Input::Json { schema, bytes_max } => {
            let description = format!("At most {}.", size(bytes_max));
            described["requestBody"] = content(&description, "application/json", schema(generator).to_value());
            described["requestBody"]["required"] = true.into();
        }
        Input::Bytes { about, bytes_max } | Input::Stream { about, bytes_max } => {
            let description = format!("{about}, at most {}.", size(bytes_max));
            described["requestBody"] = content(&description, "application/octet-stream", json!({}));
            described["requestBody"]["required"] = true.into();
        }
    }
    described
}

fn content(description: &str, media_type: &str, schema: Value) -> Value {
    json!({ "description": description, "content": { media_type: { "schema": schema } } })
}

/// Returns the query parameters of an operation: one for each field of the type that `schema` describes. Removes the
/// schema of this type from the generated definitions, because nothing in the document refers to it.
fn query_parameters(schema: fn(&mut SchemaGenerator) -> schemars::Schema, generator: &mut SchemaGenerator) -> Value {
    let reference = schema(generator).to_value();
    let name = reference["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
    let object = generator.definitions_mut().remove(&name).unwrap_or(reference);
    let fields = object["properties"].as_object().cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    };
    fields.into_iter().map(parameter).collect()
}
