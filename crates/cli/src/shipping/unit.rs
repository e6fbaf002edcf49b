//! Making a systemd unit for a shipped program.

use std::net::SocketAddr;
use std::path::Path;

use isomer_console::CliError;
use isomer_manifest::{App, SecretSource};

use super::program::Program;

/// The first port that every user may listen on.
const UNPRIVILEGED: u16 = 1024;

/// The options of [`unit`].
pub(crate) struct UnitOptions<'a> {
    pub(crate) program: &'a Path,
    /// The path of the program on the machine that runs the service; `None` for the app's name in `/usr/local/bin`.
    pub(crate) installed_as: Option<&'a Path>,
    pub(crate) listen: SocketAddr,
}

/// A systemd unit.
pub(crate) struct Unit {
    /// The name of the unit's file.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Returns a unit for the program.
///
/// # Errors
/// If the file is not a shipped program, or if a path cannot be written in a unit.
pub(crate) fn unit(options: &UnitOptions<'_>) -> Result<Unit, CliError> {
    let Program { app, index, .. } = Program::open(options.program)?;
    let installed = match options.installed_as {
        Some(path) => path.display().to_string(),
        None => format!("/usr/local/bin/{}", app.name),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !installed.starts_with('/') || !installed.chars().all(is_plain) {
        return Err(CliError::usage(
            format!("`{installed}` cannot be the path of a service's program"),
            "write an absolute path of letters, digits and `/ . _ - +`: --installed-as PATH",
        ));
    }
    let text = text(&app, index.digest.as_str(), &installed, options.listen);
    Ok(Unit { name: format!("{}.service", app.name), text })
}

fn text(app: &App, release: &str, installed: &str, listen: SocketAddr) -> String {
    let App { name, version, .. } = app;
    let (capabilities, bounding) = match listen.port() < UNPRIVILEGED {
        true => ("AmbientCapabilities=CAP_NET_BIND_SERVICE\n", "CAP_NET_BIND_SERVICE"),
        false => ("", ""),
    };
    let variables = app.secrets.values().filter_map(|source| match source {
        SecretSource::Env(variable) => Some(format!("#   {variable}=…\n")),
        SecretSource::File(_) => None,
    });
    let variables: String = variables.collect();
    let secrets = match variables.is_empty() {
        true => String::new(),
        false => format!("# The app's secrets. The file must be readable only by root (mode 0600):\n{variables}"),
    };
    format!(
        "\
# {name} {version} as a service, release {release}.
#
#   install -m 0755 {name} {installed}
#   install -m 0644 {name}.service /etc/systemd/system/{name}.service
#   systemctl daemon-reload && systemctl enable --now {name}

[Unit]
Description={name} {version}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={installed} --listen {listen} --json
# Running requests may finish before the service stops.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=60
Restart=on-failure
RestartSec=1
WatchdogSec=30

# A user that exists only while the service runs. The data stays in /var/lib/{name}.
DynamicUser=true
StateDirectory={name}
StateDirectoryMode=0700
UMask=0077
{secrets}EnvironmentFile=-/etc/{name}.env

{capabilities}CapabilityBoundingSet={bounding}
NoNewPrivileges=true

LimitNOFILE=1048576
LimitCORE=0
TasksMax=4096
OOMPolicy=continue

# The app's compiled code is mapped as executable, so MemoryDenyWriteExecute= cannot be set. All other permissions that the
# service does not need are denied.
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
PrivateDevices=true
PrivateMounts=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
RemoveIPC=true
LockPersonality=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"
    )
}
