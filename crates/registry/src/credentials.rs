//! Credentials from Docker's configuration file, or from a credential helper that the file names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::cache::read_bounded;
use crate::error::RegistryError;

/// The maximum size of the configuration in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The maximum size in bytes of the output of a credential helper.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

/// The maximum time that a credential helper may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// The key of Docker Hub in the configuration.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// The user name that a credential helper returns with a token instead of a password.
const TOKEN_USER: &str = "<token>";

/// The credentials of a user at a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a token service exchanges for access.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The place from which credentials are read.
#[derive(Debug, Clone, Default)]
pub struct CredentialSource {
    /// The folder of Docker's configuration; `None` if there is none.
    pub docker_config: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

impl CredentialSource {
    /// Returns the folder that Docker uses: `$DOCKER_CONFIG`, or `.docker` in the user's home.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { docker_config: variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker"))) }
    }

    /// Returns the credentials for a registry; `None` if there are none.
    ///
    /// # Errors
    /// If the configuration cannot be read, or a credential helper that it names fails.
    pub async fn credentials(&self, registry: &str) -> Result<Option<Credentials>, RegistryError> {
        let Some(folder) = &self.docker_config else { return Ok(None) };
        let path = folder.join("config.json");
        let problem = |problem: String| RegistryError::Credentials { registry: registry.to_owned(), problem };
        let bytes = match read_bounded(&path, CONFIG_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(problem(format!("`{}`: {error}", path.display()))),
        };
        let config: DockerConfig = serde_json::from_slice(&bytes).map_err(|error| {
            // The message of the parser is left out, because it can quote the file, which contains passwords.
            let (line, column) = (error.line(), error.column());
            problem(format!("`{}` is not valid at line {line}, column {column}", path.display()))
        })?;
        let keys = keys(registry);
        if let Some((key, helper)) = keys.iter().find_map(|key| Some((key, config.cred_helpers.get(key)?))) {
            return helper_credentials(helper, key).await.map_err(problem);
        }
        let auth = keys.iter().find_map(|key| Some((key, config.auths.get(key)?)));
        if let Some(found) = auth.and_then(|(_, auth)| auth.credentials()) {
            return Ok(Some(found));
        }
        match &config.creds_store {
            Some(helper) => {
                let key = auth.map_or_else(|| keys[0].as_str(), |(key, _)| key);
                helper_credentials(helper, key).await.map_err(problem)
            }
            None => Ok(None),
        }
    }
}

/// Returns the keys under which the configuration may contain the credentials for a registry.
fn keys(registry: &str) -> Vec<String> {
    if registry == "docker.io" {
        return vec![DOCKER_KEY.to_owned(), registry.to_owned(), "index.docker.io".to_owned()];
    }
    let with = |prefix: &str, suffix: &str| format!("{prefix}{registry}{suffix}");
    vec![
        with("", ""),
        with("https://", ""),
        with("https://", "/"),
        with("https://", "/v1/"),
        with("https://", "/v2/"),
        with("http://", ""),
    ]
}

impl Auth {
    fn credentials(&self) -> Option<Credentials> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Some(Credentials::IdentityToken(token.clone()));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, password) = decoded.split_once(':')?;
            // The password may be padded with NUL bytes.
            let password = password.trim_end_matches('\0');
            return Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() });
        }
        Some(Credentials::Basic { user: self.username.clone()?, password: self.password.clone()? })
    }
}

/// Runs the credential helper `docker-credential-NAME`, and returns the credentials that it prints.
async fn helper_credentials(name: &str, key: &str) -> Result<Option<Credentials>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(
            "the name of the credential helper contains characters other than letters, digits, `-`, `_` and `.`"
                .to_owned(),
        );
    }
    let program = format!("docker-credential-{name}");
    let run = run_helper(Path::new(&program), key);
    let (success, output) = match tokio::time::timeout(HELPER_TIMEOUT, run).await {
        Err(_) => return Err(format!("`{program}` did not finish in {} seconds", HELPER_TIMEOUT.as_secs())),
        Ok(Err(error)) => return Err(format!("`{program}`: {error}")),
        Ok(Ok(done)) => done,
    };
    if !success {
        // Helpers print this message if they have no credentials.
        let has_none = String::from_utf8_lossy(&output).contains("credentials not found");
        return if has_none { Ok(None) } else { Err(format!("`{program}` failed")) };
    }
    let output: HelperOutput =
        serde_json::from_slice(&output).map_err(|_| format!("`{program}` printed no credentials"))?;
    Ok(Some(match output.username.as_str() {
        TOKEN_USER => Credentials::IdentityToken(output.secret),
        _ => Credentials::Basic { user: output.username, password: output.secret },
    }))
}

async fn run_helper(program: &Path, key: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Writing fails if the helper closes its standard input without reading it.
        let _closed = input.write_all(format!("{key}\n").as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(config: &str) -> (tempfile::TempDir, CredentialSource) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let source = CredentialSource { docker_config: Some(folder.path().to_owned()) };
        (folder, source)
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    #[tokio::test]
    async fn credentials_belong_to_their_registry() {
        let (_folder, source) = source(&format!(
            r#"{{"auths": {{
                "r.example": {{"auth": "{}"}},
                "https://old.example/v1/": {{"username": "a", "password": "b"}},
                "t.example:5000": {{"identitytoken": "t"}},
                "https://index.docker.io/v1/": {{"auth": "{}"}}
            }}}}"#,
            STANDARD.encode("me:pass:word"),
            STANDARD.encode("hub:x"),
        ));
        for (registry, expected) in [
            ("r.example", Some(basic("me", "pass:word"))),
            ("old.example", Some(basic("a", "b"))),
            ("t.example:5000", Some(Credentials::IdentityToken("t".to_owned()))),
            ("docker.io", Some(basic("hub", "x"))),
            ("t.example", None),
            ("r.example.evil.example", None),
            ("example", None),
        ] {
            assert_eq!(source.credentials(registry).await.unwrap(), expected, "{registry}");
        }
    }

    #[tokio::test]
    async fn a_bad_configuration_is_an_error_that_quotes_no_password() {
        for config in ["{\"auths\": \"hunter2\"}", "hunter2", "{\"credsStore\": \"../hunter2\"}"] {
            let (_folder, source) = source(config);
            let error = source.credentials("r.example").await.unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("r.example"), "{error}");
        }
        assert_eq!(CredentialSource::default().credentials("r.example").await.unwrap(), None);
        assert!(!format!("{:?}", basic("hunter2", "hunter2")).contains("hunter2"));
    }
}
