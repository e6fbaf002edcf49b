//! The steps of making and starting a revision, for progress reports.

/// A step of making or starting a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Planning: deciding in which mode each seam runs, and in which group each component runs.
    Plan,
    /// Composing the components of the named group.
    Compose(&'a str),
    /// Compiling the named group.
    Compile(&'a str),
    /// Starting the first instance of the named group.
    Start(&'a str),
}
