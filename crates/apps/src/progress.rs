//! The steps of making and starting a revision, as they are reported.

/// A step of making or starting a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Planning: deciding how seams are crossed and where components run.
    Plan,
    /// Composing the components of a group.
    Compose(&'a str),
    /// Compiling a group.
    Compile(&'a str),
    /// Starting the first instance of a group.
    Start(&'a str),
}
