//! Generates `docs/reference/cli.md`, `exit-codes.md` and `environment.md` from the definition of the command line. A
//! test compares the files with the generated texts. With `ISOMER_BLESS=1`, the test writes the files.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use crate::environment::VARIABLES;

const HEAD: &str = "\
# The command line

Generated from the program (`isomer help COMMAND` prints the same). Results go to standard output, messages to standard
error.

";

const EXIT_CODES: &str = "\
# Exit codes

| code | meaning |
| --- | --- |
| 0 | success |
| 1 | the command failed, for example because the manifest is invalid, a build or a start failed, or the node refused the request |
| 2 | the command line is invalid: an argument is unknown, malformed or missing, contradicts another argument, or names something that the command cannot use, such as a folder without an app |
| 130 | interrupted: a second signal to `isomer run`, `isomer dev` or `isomer node`, or Ctrl-C in `isomer exec` |
| other | the exit code of the component that `isomer exec` ran |

Exit code 2 means that the command line must be corrected; exit code 1 means that something else must be corrected.
";

const ENVIRONMENT: &str = "\
# Environment variables

Generated from the program.

| variable | meaning |
| --- | --- |
";

const OTLP_VARIABLES: &str = "
## The export of telemetry

`isomer run`, `isomer dev` and `isomer node` read these standard variables of OpenTelemetry ([guide](../guides/send-telemetry.md)). An empty value means the
same as no value.

| variable | meaning |
| --- | --- |
";

fn markdown() -> String {
    let mut command = crate::Arguments::command();
    command.build();
    let mut out = HEAD.to_owned();
    for subcommand in command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set()) {
        describe(&mut out, subcommand, "isomer");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn environment_markdown() -> String {
    let mut out = ENVIRONMENT.to_owned();
    for variable in VARIABLES {
        let _ = writeln!(out, "| `{}` | {} |", variable.name, variable.about);
    }
    out.push_str(OTLP_VARIABLES);
    for (name, about) in isomer_otlp::settings::VARIABLES {
        let _ = writeln!(out, "| `{name}` | {about} |");
    }
    out
}

fn describe(out: &mut String, command: &Command, path: &str) {
    let path = format!("{path} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let level = if path.split(' ').count() > 2 { "###" } else { "##" };
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(out, "{level} {path}\n\n{about}.\n\n```text\n{usage}\n```\n\n");
    let arguments: Vec<_> = command.get_arguments().filter(|it| !is_everywhere(it) && !it.is_hide_set()).collect();
    if !arguments.is_empty() {
        out.push_str("| argument | meaning |\n| --- | --- |\n");
        for argument in arguments {
            let _ = writeln!(out, "| `{}` | {} |", name(argument).replace('|', "\\|"), meaning(argument));
        }
        out.push('\n');
    }
    for subcommand in command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set()) {
        describe(out, subcommand, &path);
    }
}

/// Returns whether the argument is `--help` or `--version`. Every command has them, so the reference does not list
/// them.
fn is_everywhere(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

fn name(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>();
    let values = values.join(" ");
    let short = argument.get_short().map_or_else(String::new, |short| format!("-{short}, "));
    let name = match argument.get_long() {
        Some(long) if matches!(argument.get_action(), ArgAction::SetTrue) => format!("--{long}"),
        Some(long) => format!("--{long} {values}"),
        None => values,
    };
    short + &name
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults = argument.get_default_values().iter().map(|it| it.to_string_lossy()).collect::<Vec<_>>();
    let takes_value = argument.get_action().takes_values();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, " [default: `{}`]", defaults.join(" "));
    }
    for value in argument.get_possible_values().iter().filter(|_| takes_value) {
        let about = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
        let _ = write!(text, "<br>`{}`{about}", value.get_name());
    }
    text.replace('|', "\\|")
}

#[test]
fn the_reference_is_up_to_date() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let pages =
        [("cli.md", markdown()), ("exit-codes.md", EXIT_CODES.to_owned()), ("environment.md", environment_markdown())];
    for (file, generated) in pages {
        let path = folder.join(file);
        if std::env::var_os("ISOMER_BLESS").is_some() {
            std::fs::write(&path, &generated).expect("the file can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == generated,
            "`docs/reference/{file}` differs from what the program generates; write it with `ISOMER_BLESS=1 cargo test -p isomer`"
        );
    }
}

/// The commands without `--json`, because they print the guest's output or a script.
const WITHOUT_JSON: [&str; 2] = ["isomer completions", "isomer exec"];

#[test]
fn commands_are_consistent() {
    fn check(command: &Command, path: &str, problems: &mut Vec<String>) {
        if command.get_about().is_none() {
            problems.push(format!("`{path}` does not say what it does"));
        }
        let visible = || command.get_arguments().filter(|it| !is_everywhere(it) && !it.is_hide_set());
        for argument in visible().filter(|argument| argument.get_help().is_none()) {
            problems.push(format!("`{path}` does not say what `{}` means", name(argument)));
        }
        let commands: Vec<_> =
            command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set()).collect();
        let prints = commands.is_empty() && !WITHOUT_JSON.contains(&path);
        if prints && !visible().any(|argument| argument.get_long() == Some("json")) {
            problems.push(format!("`{path}` has no `--json`"));
        }
        for command in commands {
            check(command, &format!("{path} {}", command.get_name()), problems);
        }
    }
    let mut command = crate::Arguments::command();
    command.build();
    let mut problems = Vec::new();
    check(&command, "isomer", &mut problems);
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_command_line_is_well_formed() {
    crate::Arguments::command().debug_assert();
}
