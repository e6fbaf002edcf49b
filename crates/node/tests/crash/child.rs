//! The child process, which opens a node, makes one change, and kills itself after one step of the change.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use isomer_node::ChangeStep;

use crate::app_changes::AppChange;
use crate::node::{TestNode, Watch};
use crate::state_changes::StateChange;
use crate::store_changes::StoreChange;

/// The first argument of a child process. The data directory, the change and the step follow.
pub(crate) const ARGUMENT: &str = "killed-after";

const SIGKILL: i32 = 9;

/// A change that a child process makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    App(AppChange),
    State(StateChange),
    Store(StoreChange),
}

impl Change {
    fn all() -> impl Iterator<Item = Self> {
        let apps = AppChange::ALL.into_iter().map(Self::App);
        apps.chain(StateChange::ALL.into_iter().map(Self::State)).chain(StoreChange::ALL.into_iter().map(Self::Store))
    }

    async fn run(self, node: &TestNode) {
        match self {
            Self::App(change) => change.run(node).await,
            Self::State(change) => change.run(node).await,
            Self::Store(change) => change.run(node).await,
        }
    }
}

/// Makes the change that `arguments` name. Called in the child process, which kills itself when the change reaches the
/// step that `arguments` name.
pub(crate) async fn run(arguments: &[String]) {
    let [dir, change, step] = arguments else { panic!("not a folder, a change and a step: {arguments:?}") };
    let change = Change::all().find(|one| format!("{one:?}") == *change).unwrap();
    let last = ChangeStep::ALL.into_iter().find(|one| format!("{one:?}") == *step).unwrap();
    let watch: Watch = Arc::new(move |step| {
        if step == last {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
    });
    let node = TestNode::watched(Path::new(dir), Some(watch)).await;
    change.run(&node).await;
    panic!("the change did not reach {last:?}");
}

/// Makes the change in a child process, which is killed after `step`.
pub(crate) fn kill_after(change: Change, step: ChangeStep, dir: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(ARGUMENT)
        .arg(dir)
        .args([format!("{change:?}"), format!("{step:?}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGKILL), "{change:?} at {step:?}: {stderr}");
}

/// The steps that a node has reported.
#[derive(Clone, Default)]
pub(crate) struct Steps(Arc<Mutex<Vec<ChangeStep>>>);

impl Steps {
    /// Returns the function that notes each step.
    pub(crate) fn watch(&self) -> Watch {
        let steps = self.0.clone();
        Arc::new(move |step| steps.lock().unwrap().push(step))
    }

    /// Returns the steps so far, in order.
    pub(crate) fn take(&self) -> Vec<ChangeStep> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}
