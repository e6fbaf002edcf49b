//! The steps of a deployment, and what they promise.
//!
//! ```text
//! parts are there ─► manifest, folders, secrets ─► package (child) ─► files laid out ─► started next to the one in service
//!      ─► healthy ─► recorded (one transaction) ─► took over ─► the old one drains
//! ```
//!
//! If stores are replaced (migrations, or a rollback to a snapshot) there are more steps around *recorded*: see
//! [`crate::deployment::takeover`].
//!
//! Nothing refers to what is made before *recorded*: a deployment that fails or is killed before it has changed
//! nothing, and `sweep` removes what is left. What happens after it only makes the running process agree with what is
//! recorded, which opening a node does too. So at every moment the app has one whole revision. (A journal of steps that
//! a restart would finish or undo was rejected: there is nothing to undo, and what there is to finish is what every
//! start does.)
//!
//! Deployments of one app run one after another. A second one is refused at once, because it would be based on a state
//! that it has not seen.

/// A step that was just completed. Every change of an app, a secret or a tenant passes these; tests kill the process at
/// each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeStep {
    /// The release is complete and may run.
    Checked,
    /// There is a package of it, and its code.
    Packed,
    /// Its files are laid out.
    LaidOut,
    /// It runs next to the revision in service.
    Started,
    /// Its health check passed.
    Healthy,
    /// The app's requests wait, because its stores are to be replaced.
    Held,
    /// The intent to replace the stores is written.
    Noted,
    /// The files that replace the stores are made.
    Staged,
    /// The change is recorded: the app's revision, a secret's value, a tenant's quotas.
    Recorded,
    /// The app's stores are those of the new revision.
    Switched,
    /// The new revision serves.
    TookOver,
    /// The intent to remove an app's or a tenant's data is written.
    RemovalNoted,
    /// The removal of the app or tenant is recorded.
    Forgotten,
    /// The app or tenant is removed from memory.
    Unloaded,
    /// The data is moved out of the way.
    DataSetAside,
    /// The data is removed.
    DataRemoved,
}

impl ChangeStep {
    /// All steps.
    pub const ALL: [Self; 16] = [
        Self::Checked,
        Self::Packed,
        Self::LaidOut,
        Self::Started,
        Self::Healthy,
        Self::Held,
        Self::Noted,
        Self::Staged,
        Self::Recorded,
        Self::Switched,
        Self::TookOver,
        Self::RemovalNoted,
        Self::Forgotten,
        Self::Unloaded,
        Self::DataSetAside,
        Self::DataRemoved,
    ];
}
