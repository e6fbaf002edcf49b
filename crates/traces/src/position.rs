//! Positions in a store, at which the next page of a list starts.

/// A position in a store: the record at `at` in the file with the number `segment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) at: usize,
}

impl Position {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (segment, at) = text.split_once('-')?;
        Some(Self { segment: segment.parse().ok()?, at: at.parse().ok()? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.segment, self.at)
    }
}
