//! `isomer completions`: prints shell completion scripts for this program's commands and flags.

use clap::Command;
use clap_complete::Shell;
use isomer_console::{CliError, print};

/// Print a shell completion script for isomer's commands and flags.
#[derive(clap::Args)]
#[command(after_help = INSTALL)]
pub(crate) struct Arguments {
    /// The shell that will run the script.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Where to install the script, for each shell.
const INSTALL: &str = "To install it for this user:
  bash        isomer completions bash > ~/.local/share/bash-completion/completions/isomer
  zsh         isomer completions zsh > ~/.zfunc/_isomer
  fish        isomer completions fish > ~/.config/fish/completions/isomer.fish
  powershell  isomer completions powershell >> $PROFILE
  elvish      isomer completions elvish > ~/.config/elvish/lib/isomer.elv
Make the folder first if it does not exist. zsh needs `fpath+=(~/.zfunc)` before `compinit` in ~/.zshrc,
elvish needs `use isomer` in ~/.config/elvish/rc.elv.";

pub(crate) fn run(arguments: &Arguments, command: &Command) -> Result<(), CliError> {
    print(&script(arguments.shell, command))
}

/// Returns the completion script for `shell`.
fn script(shell: Shell, command: &Command) -> String {
    let mut command = for_people(command).version(env!("CARGO_PKG_VERSION")).propagate_version(true);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "isomer", &mut script);
    String::from_utf8(script).expect("a script made of UTF-8 texts is UTF-8")
}

/// Returns the command without hidden subcommands and flags, because clap's generators would include them.
fn for_people(command: &Command) -> Command {
    // clap needs a static name. Leaking it is fine, because the program ends soon after this.
    let name: &'static str = command.get_name().to_owned().leak();
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let visible =
        Command::new(name).disable_help_subcommand(true).args(arguments).subcommands(commands.map(for_people));
    // `isomer reshape [APP] SHAPE`
    let visible = visible.allow_missing_positional(true);
    match command.get_about() {
        Some(about) => visible.about(about.clone()),
        None => visible,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;

    #[test]
    fn scripts_of_every_shell_leave_out_hidden_commands() {
        let command = crate::Arguments::command();
        for shell in Shell::value_variants() {
            let script = script(*shell, &command);
            for offered in ["completions", "deploy", "listen", "access-log"] {
                assert!(script.contains(offered), "{shell} lacks {offered}");
            }
            for hidden in ["compile-child", "compile_child", "rehearse", "given-clock-and-random", "--member"] {
                assert!(!script.contains(hidden), "{shell} has {hidden}");
            }
        }
    }
}
