//! The steps that are reported while an app is built, composed and started.

/// What is being done, for whoever shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Working out who runs where.
    Plan,
    /// Putting a group's components together.
    Compose(&'a str),
    /// Compiling a group.
    Compile(&'a str),
    /// GroupStarter a group's first instance.
    Start(&'a str),
}
