//! The steps of a deployment, and their guarantees.
//!
//! ```text
//! parts are there ─► manifest, folders, secrets ─► package (child) ─► files created ─► started next to the one in service
//!      ─► healthy ─► recorded (one transaction) ─► took over ─► the old one drains
//! ```
//!
//! If stores are replaced (by migrations, or by a rollback to a snapshot), there are more steps before and after
//! *recorded*: see [`crate::deployment::takeover`].
//!
//! Nothing refers to the files that are made before *recorded*. So a deployment that fails or is killed before
//! *recorded* changes nothing, and the hourly sweep removes its files. The steps after *recorded* only bring the
//! running process in line with the recorded state, as opening a node does. So at any moment, the app has exactly one
//! complete revision.
//!
//! (An alternative is a journal of the steps, from which a restarted node would finish or undo a deployment. It was
//! rejected: there is nothing to undo, and every start of a node already does what remains to be done.)
//!
//! Deployments of one app do not run concurrently. If a deployment of the app is in progress, another one is refused
//! immediately, because its client has not seen the state of the app that the first one will leave.

/// A completed step of a change of an app, a secret or a tenant. Tests kill the process after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeStep {
    /// The release has passed its checks, and is not compiled yet.
    Checked,
    /// The package of the release and its compiled code exist.
    Packed,
    /// The files of the revision exist on disk.
    LaidOut,
    /// The new revision runs as a candidate next to the revision in service.
    Started,
    /// The health check of the candidate passed.
    Healthy,
    /// The app's requests are held, because its stores are about to be replaced.
    Held,
    /// The intent to replace the stores is written.
    Noted,
    /// The new files of the stores are made.
    Staged,
    /// The change is recorded in the node's state: for example an app's revision, a secret's value, or a tenant's
    /// quotas.
    Recorded,
    /// The new files of the app's stores have replaced the previous ones.
    Switched,
    /// The new revision, or the new state of the app, tenant or secret, is in effect.
    TookOver,
    /// The intent to remove an app's or a tenant's data is written.
    RemovalNoted,
    /// The removal of the app or tenant is recorded in the node's state.
    Forgotten,
    /// The app or tenant is removed from memory.
    Unloaded,
    /// The data of the app or tenant is in the trash.
    DataSetAside,
    /// The data of the app or tenant is removed from the disk.
    DataRemoved,
}

impl ChangeStep {
    /// All steps, in the order of their declaration.
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
