//! Tests of the help texts.

use crate::support::{Workspace, assert_run};

#[test]
fn help() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["--help"]));
}

#[test]
fn help_of_new() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["new", "--help"]));
}

#[test]
fn help_of_build() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["build", "--help"]));
}

#[test]
fn help_of_run() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["run", "--help"]));
}

#[test]
fn help_of_dev() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["dev", "--help"]));
}

#[test]
fn help_of_plan() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["plan", "--help"]));
}

#[test]
fn help_of_exec() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["exec", "--help"]));
}

#[test]
fn help_of_test() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["test", "--help"]));
}

#[test]
fn help_of_wit() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["wit", "--help"]));
}

#[test]
fn help_of_doctor() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["doctor", "--help"]));
}

#[test]
fn help_of_completions() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["completions", "--help"]));
}

#[test]
fn completions_are_printed() {
    let workspace = Workspace::new();
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef isomer"), ("fish", "complete -c isomer")] {
        let printed = workspace.run(&["completions", shell]);
        assert!(printed.starts_with("exit code: 0\n") && printed.contains(part), "{printed}");
    }
}

#[test]
fn no_arguments() {
    let workspace = Workspace::new();
    let printed = workspace.run(&[]);
    assert!(printed.starts_with("exit code: 2\n") && printed.contains("Usage: isomer <COMMAND>"), "{printed}");
}
