//! Source files that this provider shares with the node.

#[path = "../../../crates/capabilities/src/sql/authorizer.rs"]
#[allow(dead_code, reason = "the provider has no inspection")]
pub(crate) mod authorizer;
#[path = "../../../crates/capabilities/src/kv/cursors.rs"]
pub(crate) mod cursors;
#[path = "../../../crates/display/src/excerpt.rs"]
pub(crate) mod excerpt;
#[path = "../../../crates/capabilities/src/sql/functions.rs"]
pub(crate) mod functions;
#[path = "../../../crates/capabilities/src/sql/sections.rs"]
pub(crate) mod sections;
#[path = "../../../crates/display/src/size.rs"]
pub(crate) mod size;
