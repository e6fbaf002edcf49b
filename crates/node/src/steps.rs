//! The steps of a deployment, and their guarantees.
//!
//! ```text
//! parts are there ─► manifest, folders, secrets ─► package (child) ─► files laid out ─► started next to the one in service
//!      ─► healthy ─► recorded (one transaction) ─► took over ─► the old one drains
//! ```
//!
//! If stores are replaced (migrations, or a rollback to a snapshot), there are more steps around *recorded*: see
//! [`crate::deployment::takeover`].
//!
//! Nothing refers to the files that are made before *recorded*. So a deployment that fails or is killed before
//! *recorded* has changed nothing, and `sweep` removes its files. The steps after *recorded* only make the running
//! process agree with the recorded state, as opening a node does. So at every moment the app has one whole revision. (A
//! journal of steps, which a restart would finish or undo, was rejected: there is nothing to undo, and every start
//! already finishes what has to be finished.)
//!
//! Deployments of one app run one after another. A second deployment at the same time is refused immediately, because
//! it would be based on a state that its client has not seen.

/// A completed step. Every change of an app, a secret or a tenant consists of such steps; tests kill the process after
/// each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeStep {
    /// The release is complete and may run.
    Checked,
    /// The package of the release and its code exist.
    Packed,
    /// The files of the revision are laid out.
    LaidOut,
    /// The revision runs next to the revision in service.
    Started,
    /// The health check of the revision passed.
    Healthy,
    /// The app's requests wait, because its stores are to be replaced.
    Held,
    /// The intent to replace the stores is written.
    Noted,
    /// The files that replace the stores are made.
    Staged,
    /// The change is recorded: the app's revision, a secret's value, a tenant's quotas.
    Recorded,
    /// The app's stores were switched to those of the new revision.
    Switched,
    /// The new revision serves.
    TookOver,
    /// The intent to remove an app's or a tenant's data is written.
    RemovalNoted,
    /// The removal of the app or tenant is recorded.
    Forgotten,
    /// The app or tenant is removed from memory.
    Unloaded,
    /// The data is moved to the trash.
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
