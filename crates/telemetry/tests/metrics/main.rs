//! Tests of metrics as text, and the reference page that is generated from the catalogue of metrics.

mod parser;
mod reference;
mod text;
