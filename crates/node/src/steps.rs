//! The steps of a deployment, and what they promise.
//!
//! ```text
//! parts are there ─► manifest, folders, secrets ─► package (child) ─► files laid out ─► started beside the one that serves
//!      ─► healthy ─► recorded (one transaction) ─► took over ─► the old one drains by itself
//! ```
//!
//! Where its stores are replaced (migrations, a return to a snapshot) there are steps more around *recorded*: see [`crate::deployment::takeover`].
//!
//! Everything before *recorded* makes things that nobody refers to: who fails or is killed there has changed nothing, and `sweep`
//! removes what is left. Everything after it only brings the running process into line with what is recorded, which a restart does too.
//! So at every moment one whole revision is the app's. (A journal of steps that a restart would finish or undo was rejected: there is
//! nothing to undo, and what there is to finish is what every start does.)
//!
//! Deployments of one app come one after the other; a second one is told so at once, as it would be about a state that it has not seen.

/// What has just been done, for whoever watches. All that happens to an app, a secret or a tenant passes these; tests end the process at
/// each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeStep {
    /// The release is all there and may run.
    Checked,
    /// There is a package of it, and its code.
    Packed,
    /// Its files are laid out.
    LaidOut,
    /// It runs beside the revision that serves.
    Started,
    /// It answered its health path.
    Healthy,
    /// Requests of the app wait, as its stores are to be replaced.
    Held,
    /// It is noted that they are.
    Noted,
    /// What replaces them is there.
    Staged,
    /// It is the app's revision from now on; the secret's value, the tenant's quotas.
    Recorded,
    /// Its stores are those that go with it.
    Switched,
    /// It serves.
    TookOver,
    /// It is noted that an app's or a tenant's data is to be removed.
    RemovalNoted,
    /// The app or tenant is no more.
    Forgotten,
    /// It serves no more.
    Unloaded,
    /// Its data is out of the way.
    DataSetAside,
    /// Its data is gone.
    DataRemoved,
}

impl ChangeStep {
    /// All there are.
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
