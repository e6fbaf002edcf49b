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
    let Program { app, file } = Program::open(options.program)?;
    check_access(&app)?;
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
    // The app's author chooses its name, which may also be that of a user or of a service of the system. systemd runs a
    // service with the name of an existing user as that user, and takes over its folder in `/var/lib`.
    let unit = format!("isomer-{}", app.name);
    let text = text(&app, &unit, file.index.digest.as_str(), &installed, options.listen);
    Ok(Unit { name: format!("{unit}.service"), text })
}

/// Checks that the service can reach what the manifest grants: its user exists only while it runs, and the machine's folders
/// are read-only for it.
fn check_access(app: &App) -> Result<(), CliError> {
    for (name, source) in &app.secrets {
        if let SecretSource::File(path) = source {
            return Err(CliError::failed(
                format!(
                    "the secret `{name}` comes from the file `{}`, which the service's user cannot read",
                    path.display()
                ),
                format!("write `{name} = {{ env = \"NAME\" }}` under `[secrets]`, and ship the program again"),
            ));
        }
    }
    for (name, component) in &app.components {
        let mut dirs = component.grants.dirs.iter().map(|dir| &dir.value);
        // A release contains the folders that are only read, so an absolute path is that of a folder to write to.
        if let Some(dir) = dirs.find(|dir| dir.host.is_absolute()) {
            return Err(CliError::failed(
                format!(
                    "component `{name}` is granted the folder `{}`, to which the service cannot write",
                    dir.host.display()
                ),
                "write a relative path, which is in the service's data directory, and ship the program again",
            ));
        }
    }
    Ok(())
}

fn text(app: &App, unit: &str, release: &str, installed: &str, listen: SocketAddr) -> String {
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
#   install -m 0644 {unit}.service /etc/systemd/system/{unit}.service
#   systemctl daemon-reload && systemctl enable --now {unit}

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

# A user that exists only while the service runs. The data stays in /var/lib/{unit}.
DynamicUser=true
StateDirectory={unit}
StateDirectoryMode=0700
UMask=0077
{secrets}EnvironmentFile=-/etc/{unit}.env

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
