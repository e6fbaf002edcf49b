//! The header of a record, and finding the records in the bytes of a file.

use isomer_telemetry::{RequestId, TraceId};

/// The length of a header in bytes.
pub(super) const HEADER_BYTES: usize = 56;

/// The number of bytes at the start of a record that its length does not include: the length and the checksum.
const LENGTH_AND_CHECKSUM_BYTES: usize = 8;

/// The maximum length of a record in bytes. Spans that do not fit are dropped.
pub(crate) const RECORD_BYTES_MAX: usize = 256 << 10;

const FAILED: u8 = 1;
const SAMPLED: u8 = 2;
const ROOT: u8 = 4;

/// The start of a record: what a search can decide without decoding the spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) trace_id: TraceId,
    pub(crate) request: RequestId,
    /// The start of the fragment's first span.
    pub(crate) start_ns: u64,
    pub(crate) duration_ns: u64,
    /// The status code of the response.
    pub(crate) status: Option<u16>,
    /// Whether any span failed.
    pub(crate) is_failed: bool,
    pub(crate) is_sampled: bool,
    /// Whether the fragment contains the request's first span.
    pub(crate) is_root: bool,
    pub(crate) spans: u32,
}

impl RecordHeader {
    /// Writes the header to `record`, a complete record whose first [`HEADER_BYTES`] are unused.
    pub(super) fn write(&self, record: &mut [u8]) {
        let mut flags = 0;
        for (flag, is_set) in [(FAILED, self.is_failed), (SAMPLED, self.is_sampled), (ROOT, self.is_root)] {
            flags |= if is_set { flag } else { 0 };
        }
        record[8..24].copy_from_slice(&self.trace_id.get().to_le_bytes());
        record[24..32].copy_from_slice(&self.request.get().to_le_bytes());
        record[32..40].copy_from_slice(&self.start_ns.to_le_bytes());
        record[40..48].copy_from_slice(&self.duration_ns.to_le_bytes());
        record[48..50].copy_from_slice(&self.status.unwrap_or(0).to_le_bytes());
        record[50] = flags;
        record[51] = 0;
        record[52..56].copy_from_slice(&self.spans.to_le_bytes());
        let length = record.len() - LENGTH_AND_CHECKSUM_BYTES;
        let checksum = crc32fast::hash(&record[LENGTH_AND_CHECKSUM_BYTES..]);
        record[..4].copy_from_slice(&u32::try_from(length).expect("records are short").to_le_bytes());
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the header of a complete record. Returns `None` if the checksum is wrong.
    fn read(record: &[u8]) -> Option<Self> {
        let checksum = u32::from_le_bytes(*record[4..].first_chunk()?);
        if checksum != crc32fast::hash(&record[LENGTH_AND_CHECKSUM_BYTES..]) {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(*record[at..].first_chunk()?));
        let status = u16::from_le_bytes([record[48], record[49]]);
        let has = |flag: u8| record[50] & flag != 0;
        Some(Self {
            trace_id: TraceId::from_raw(u128::from_le_bytes(*record[8..].first_chunk()?))?,
            request: RequestId::from_raw(number(24)?)?,
            start_ns: number(32)?,
            duration_ns: number(40)?,
            status: (status != 0).then_some(status),
            is_failed: has(FAILED),
            is_sampled: has(SAMPLED),
            is_root: has(ROOT),
            spans: u32::from_le_bytes(*record[52..].first_chunk()?),
        })
    }
}

/// A record in the bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// The position of the record.
    pub(crate) at: usize,
    pub(crate) header: RecordHeader,
    /// The encoded spans.
    pub(crate) payload: &'a [u8],
}

/// Returns the records in `bytes` from the position `at` on. Records with a wrong checksum are skipped. The search ends
/// at the first record that is not complete: a killed process may have written a part of it.
pub(crate) fn records(bytes: &[u8], at: usize) -> impl Iterator<Item = Record<'_>> {
    let mut next = at;
    std::iter::from_fn(move || {
        loop {
            let at = next;
            let rest = bytes.get(at..)?;
            let length = u32::from_le_bytes(*rest.first_chunk()?) as usize + LENGTH_AND_CHECKSUM_BYTES;
            if !(HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length) {
                return None;
            }
            let record = rest.get(..length)?;
            next = at + length;
            if let Some(header) = RecordHeader::read(record) {
                return Some(Record { at, header, payload: &record[HEADER_BYTES..] });
            }
        }
    })
}

/// Returns the length of the part of `bytes` that ends with the last intact record. Records start at `at`.
pub(crate) fn intact_bytes(bytes: &[u8], at: usize) -> usize {
    records(bytes, at).last().map_or(at, |record| record.at + HEADER_BYTES + record.payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(request: u64, payload: &[u8]) -> Vec<u8> {
        let mut record = [&[0; HEADER_BYTES], payload].concat();
        header(request).write(&mut record);
        record
    }

    fn header(request: u64) -> RecordHeader {
        RecordHeader {
            trace_id: TraceId::from_raw(u128::MAX - 1).unwrap(),
            request: RequestId::from_raw(request).unwrap(),
            start_ns: 1_700_000_000_000_000_000,
            duration_ns: 5,
            status: Some(503),
            is_failed: true,
            is_sampled: false,
            is_root: true,
            spans: 7,
        }
    }

    fn requests(bytes: &[u8]) -> Vec<u64> {
        records(bytes, 0).map(|record| record.header.request.get()).collect()
    }

    #[test]
    fn records_are_found_in_order() {
        let bytes = [record(1, b"one"), record(2, b""), record(3, b"three")].concat();
        let found: Vec<_> = records(&bytes, 0).collect();
        assert_eq!(found.iter().map(|it| it.payload).collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!(found[2].header, header(3));
        assert_eq!(intact_bytes(&bytes, 0), bytes.len());
        assert_eq!(records(&bytes, found[1].at).count(), 2);
        assert_eq!(records(&bytes, bytes.len() + 1).count(), 0);
    }

    #[test]
    fn a_torn_record_is_not_read_at_any_length() {
        let bytes = [record(1, b"one"), record(2, b"two")].concat();
        let first = bytes.len() / 2;
        for length in first..bytes.len() {
            assert_eq!((requests(&bytes[..length]), intact_bytes(&bytes[..length], 0)), (vec![1], first));
        }
        let zeroed = [&bytes[..first], &[0; 200]].concat();
        assert_eq!((requests(&zeroed), intact_bytes(&zeroed, 0)), (vec![1], first));
    }

    #[test]
    fn a_damaged_record_is_skipped() {
        let intact = [record(1, b"one"), record(2, b"two"), record(3, b"three")].concat();
        let middle = record(1, b"one").len();
        for at in middle + 4..middle + record(2, b"two").len() {
            let mut bytes = intact.clone();
            bytes[at] ^= 0x10;
            assert_eq!(requests(&bytes), [1, 3], "{at}");
        }
    }
}
