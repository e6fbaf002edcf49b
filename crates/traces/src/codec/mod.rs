//! The records of a store's files: one for each fragment of a trace.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `record` | the header of a record, and finding the records in a file |
//! | `encode` | encoding fragments as records |
//! | `decode` | decoding records into fragments |
//! | `dictionary` | texts that records contain as numbers |
//! | `bytes` | integers of variable length |
//!
//! The encoding is our own. The header has a fixed length, so a search skips a record without decoding it. In the
//! spans, times and counts have as many bytes as they need, and a text that occurs several times in a record is stored
//! once. This makes a record about five times smaller than JSON, and a record can be read without any other record, so
//! the oldest file can be deleted. `postcard` was rejected, because attributes' values are untagged in JSON, which a
//! format without types cannot read, and because it would store every text in full.

mod bytes;
mod decode;
mod dictionary;
mod encode;
mod record;

pub(crate) use decode::{StoredFragment, decode};
pub(crate) use encode::{Encoder, fragment_times, root_of, status_of};
pub(crate) use record::{Record, RecordHeader, intact_bytes, records};
