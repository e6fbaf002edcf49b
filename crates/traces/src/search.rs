//! Searching a store's files, the newest trace first.
//!
//! A trace has one fragment for each process. In the list, the fragment with the request's first span represents the
//! trace; if this fragment is missing, the newest of the others. The fragments of a trace are written within moments of
//! each other, so the search looks for them in the file of the representing fragment and in the two files next to it.
//! An index was rejected: the files of one app are small, and the headers of a whole file are read in less than a
//! millisecond.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use isomer_api::{TracePage, TraceSummary};

use crate::codec::{Record, RecordHeader, StoredFragment, decode, records};
use crate::filter::TraceFilter;
use crate::key::TraceKey;
use crate::position::Position;
use crate::segments::{FILE_HEADER_BYTES, Segment, read};
use crate::summary::summary_of;

/// The maximum number of spans of a trace that a query returns.
const SPANS_MAX: usize = 10_000;

/// The request that a fragment belongs to. A client may send the same trace id with several requests.
type RequestKey = (u128, u64);

/// A file in memory.
struct LoadedSegment {
    number: u64,
    bytes: Vec<u8>,
    /// The positions and headers of all records.
    records: Vec<(usize, RecordHeader)>,
    /// The indexes in `records` of each request's records, in ascending order.
    by_request: HashMap<RequestKey, Vec<usize>>,
}

/// The files of a store during one search, the newest first. At most three of them are in memory.
struct SegmentWindow<'a> {
    folder: &'a Path,
    segments: Vec<Segment>,
    loaded: Vec<(usize, Option<Rc<LoadedSegment>>)>,
    bytes_read: u64,
}

/// Returns the traces in `segments`, the files of `folder`, that match `filter`. Reads no further file after `bytes_max`
/// bytes were read.
pub(crate) fn search(
    folder: &Path,
    segments: Vec<Segment>,
    filter: &TraceFilter,
    bytes_max: u64,
) -> io::Result<TracePage> {
    let mut window = SegmentWindow::new(folder, segments);
    let mut page = TracePage::default();
    for index in 0..window.segments.len() {
        let segment = window.segments[index];
        if filter.before.is_some_and(|before| before.segment < segment.number) {
            continue;
        }
        if filter.is_after(segment.written_ns) {
            break;
        }
        if window.bytes_read >= bytes_max {
            page.next = Some(Position { segment: segment.number, at: usize::MAX }.to_string());
            page.stopped_early = true;
            break;
        }
        let Some(current) = window.load(index)? else { continue };
        let near = window.around(index)?;
        for (record, (at, header)) in current.records.iter().enumerate().rev() {
            let position = Position { segment: current.number, at: *at };
            if filter.before.is_some_and(|before| position >= before) || !filter.accepts(header) {
                continue;
            }
            let Some(summary) = entry(&current, record, &near, filter) else { continue };
            page.traces.push(summary);
            if page.traces.len() == filter.limit {
                let is_last = record == 0 && index + 1 == window.segments.len();
                page.next = (!is_last).then(|| position.to_string());
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// Returns the list entry for the trace that record number `record` of the file `current` belongs to. Returns
/// `None` if another record represents the trace in lists, if the trace does not match `filter`, or if the record
/// cannot be decoded. `near` contains the file `current` and the files next to it, the newest first.
fn entry(
    current: &LoadedSegment,
    record: usize,
    near: &[Rc<LoadedSegment>],
    filter: &TraceFilter,
) -> Option<TraceSummary> {
    let header = &current.records[record].1;
    let key = request_key(header);
    let fragments = || {
        let of = |segment: &'_ Rc<LoadedSegment>| {
            let indexes = segment.by_request.get(&key).map_or(&[][..], Vec::as_slice);
            let segment = segment.clone();
            indexes.iter().rev().map(move |index| (segment.clone(), *index)).collect::<Vec<_>>()
        };
        near.iter().flat_map(of)
    };
    if !header.is_root {
        let mut all = fragments();
        let (newest, index) = all.next()?;
        let is_newest = newest.number == current.number && index == record;
        if !is_newest || fragments().any(|(segment, index)| segment.records[index].1.is_root) {
            return None;
        }
    }
    let others = || fragments().filter(|(segment, index)| (segment.number, *index) != (current.number, record));
    let wanted = filter.conditions();
    let own = current.decode(record)?;
    if !filter.accepts_target(&own.fragment) {
        return None;
    }
    let mut met = filter.met_by(&own.fragment.spans);
    for (segment, index) in others() {
        if met.contains(wanted) {
            break;
        }
        met = met.and(filter.met_by_header(&segment.records[index].1));
        if !met.contains(wanted)
            && let Some(other) = segment.decode(index)
        {
            met = met.and(filter.met_by(&other.fragment.spans));
        }
    }
    if !met.contains(wanted) {
        return None;
    }
    let mut summary = summary_of(&own.fragment);
    for (segment, index) in others() {
        let other = &segment.records[index].1;
        // A request has one root span, and if a fragment of it contains the span, that fragment is `own`. So another
        // fragment with a root span belongs to a different request with the same ids, and is not part of this entry.
        if !other.is_root {
            summary.spans += u64::from(other.spans);
            summary.failed |= other.is_failed;
        }
    }
    Some(summary)
}

/// Returns the fragments with the id `key`, and whether some may be missing because `bytes_max` bytes were read or the
/// trace has too many spans.
pub(crate) fn find(
    folder: &Path,
    segments: Vec<Segment>,
    key: TraceKey,
    bytes_max: u64,
) -> io::Result<(Vec<StoredFragment>, bool)> {
    let mut found = Vec::new();
    let (mut bytes_read, mut spans) = (0, 0);
    for segment in segments.iter().rev() {
        if bytes_read >= bytes_max {
            return Ok((found, true));
        }
        let Some(bytes) = read(folder, segment)? else { continue };
        bytes_read += bytes.len() as u64;
        let is_wanted = |record: &Record<'_>| match key {
            TraceKey::Trace(id) => record.header.trace_id == id,
            TraceKey::Request(id) => record.header.request == id,
        };
        for record in records(&bytes, FILE_HEADER_BYTES).filter(is_wanted) {
            spans += record.header.spans as usize;
            if spans > SPANS_MAX {
                return Ok((found, true));
            }
            found.extend(decode(&record));
        }
    }
    Ok((found, false))
}

fn request_key(header: &RecordHeader) -> RequestKey {
    (header.trace_id.get(), header.request.get())
}

impl LoadedSegment {
    fn new(number: u64, bytes: Vec<u8>) -> Self {
        let records: Vec<_> = records(&bytes, FILE_HEADER_BYTES).map(|record| (record.at, record.header)).collect();
        let mut by_request: HashMap<RequestKey, Vec<usize>> = HashMap::with_capacity(records.len());
        for (index, (_, header)) in records.iter().enumerate() {
            by_request.entry(request_key(header)).or_default().push(index);
        }
        Self { number, bytes, records, by_request }
    }

    fn decode(&self, record: usize) -> Option<StoredFragment> {
        decode(&records(&self.bytes, self.records[record].0).next()?)
    }
}

impl<'a> SegmentWindow<'a> {
    fn new(folder: &'a Path, mut segments: Vec<Segment>) -> Self {
        segments.reverse();
        Self { folder, segments, loaded: Vec::new(), bytes_read: 0 }
    }

    /// Returns the file with the index `index`, or `None` if it was deleted.
    fn load(&mut self, index: usize) -> io::Result<Option<Rc<LoadedSegment>>> {
        if let Some((_, loaded)) = self.loaded.iter().find(|(other, _)| *other == index) {
            return Ok(loaded.clone());
        }
        let segment = self.segments[index];
        let bytes = read(self.folder, &segment)?;
        self.bytes_read += bytes.as_ref().map_or(0, Vec::len) as u64;
        let loaded = bytes.map(|bytes| Rc::new(LoadedSegment::new(segment.number, bytes)));
        self.loaded.push((index, loaded.clone()));
        Ok(loaded)
    }

    /// Returns the file with the index `index` and the files next to it, the newest first.
    fn around(&mut self, index: usize) -> io::Result<Vec<Rc<LoadedSegment>>> {
        let indexes = index.saturating_sub(1)..(index + 2).min(self.segments.len());
        self.loaded.retain(|(other, _)| indexes.contains(other));
        let mut near = Vec::new();
        for index in indexes {
            near.extend(self.load(index)?);
        }
        Ok(near)
    }
}
