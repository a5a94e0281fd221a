//! The outcome of a start request: program files to try, environment, directory.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::messages::ProcessConfig;
use crate::identity::{Environment, Identity};
use crate::paths;
use crate::rpc::ConnectError;
use crate::users::User;

/// After the user's own programs.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Command {
    pub candidates: Vec<CString>,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub cwd: CString,
    /// The client named no directory.
    pub cwd_is_default: bool,
}

impl Command {
    pub fn new(
        config: &ProcessConfig,
        user: &User,
        identity: &Identity,
        terminal: bool,
    ) -> Result<Self, ConnectError> {
        if config.cmd.is_empty() {
            return Err(ConnectError::invalid("cmd is empty"));
        }
        let environment = environment(config, user, identity, terminal)?;
        let path = environment.get("PATH").map_or(SYSTEM_PATH, String::as_str);
        let candidates = candidates(&config.cmd, path);
        let words = [&config.cmd].into_iter().chain(&config.args);
        let variables = environment.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            candidates: candidates.iter().map(|file| c_string(file)).collect::<Result<_, _>>()?,
            arguments: words.map(|word| c_string(word)).collect::<Result<_, _>>()?,
            environment: variables.map(|text| c_string(&text)).collect::<Result<_, _>>()?,
            cwd: directory(config, user, identity)?,
            cwd_is_default: config.cwd.as_deref().unwrap_or_default().is_empty(),
        })
    }
}

/// Later ones win: the user's basics, the sandbox's variables, its markers, the request's.
fn environment(
    config: &ProcessConfig,
    user: &User,
    identity: &Identity,
    terminal: bool,
) -> Result<Environment, ConnectError> {
    let mut all = Environment::new();
    let home = user.home.to_string_lossy();
    let path = format!("{}/.local/bin:{SYSTEM_PATH}", home.trim_end_matches('/'));
    let basics = [
        ("PATH", path.as_str()),
        ("HOME", &home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
        ("LANG", "C.UTF-8"),
    ];
    all.extend(basics.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if terminal {
        all.insert("TERM".into(), "xterm-256color".into());
    }
    all.extend(identity.environment());
    all.extend(identity.markers());
    for (name, value) in &config.envs {
        if name.is_empty() || name.contains('=') {
            return Err(ConnectError::invalid(format!("'{name}' cannot be a variable's name")));
        }
        all.insert(name.clone(), value.clone());
    }
    Ok(all)
}

/// The files that a name may mean, as execvp(3) looks it up. An empty part of the path is the
/// process's directory, as is every part that is not absolute: the child is there by then.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let folders = path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
    folders.map(|folder| format!("{folder}/{name}")).collect()
}

fn directory(
    config: &ProcessConfig,
    user: &User,
    identity: &Identity,
) -> Result<CString, ConnectError> {
    let base = identity.default_workdir();
    let base = base.as_deref().map_or(user.home.as_path(), Path::new);
    let cwd = match config.cwd.as_deref() {
        None | Some("") => base.to_path_buf(),
        Some(cwd) => paths::resolve(cwd, &user.home, base)?,
    };
    CString::new(cwd.into_os_string().into_vec())
        .map_err(|_| ConnectError::invalid("cwd contains a NUL byte"))
}

fn c_string(text: &str) -> Result<CString, ConnectError> {
    CString::new(text).map_err(|_| ConnectError::invalid("an argument contains a NUL byte"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn user() -> User {
        User {
            name: "bob".into(),
            uid: 1,
            gid: 2,
            home: "/home/bob".into(),
            shell: "/bin/bash".into(),
            groups: vec![2],
        }
    }

    fn command(config: ProcessConfig) -> Result<Command, ConnectError> {
        let identity = Identity::new(Machine::Foreign, Some("bob".into()));
        Command::new(&config, &user(), &identity, false)
    }

    fn config(cmd: &str) -> ProcessConfig {
        ProcessConfig { cmd: cmd.into(), ..ProcessConfig::default() }
    }

    #[test]
    fn a_name_is_looked_up_in_the_path_and_a_path_is_not() {
        assert_eq!(candidates("ls", "/bin::rel"), ["/bin/ls", "./ls", "rel/ls"]);
        assert_eq!(candidates("./ls", "/bin"), ["./ls"]);
    }

    #[test]
    fn the_path_is_the_one_of_the_process() {
        let mut config = config("tool");
        config.envs.insert("PATH".into(), "/opt".into());
        assert_eq!(command(config).unwrap().candidates, [c"/opt/tool".to_owned()]);
    }

    #[test]
    fn the_environment_is_not_the_agents_own() {
        let command = command(config("x")).unwrap();
        let names: Vec<String> = command
            .environment
            .iter()
            .map(|text| text.to_str().unwrap().split('=').next().unwrap().to_owned())
            .collect();
        let mut expected = vec![
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "LANG",
            "E2B_SANDBOX",
            "E2B_SANDBOX_ID",
            "E2B_TEMPLATE_ID",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn programs_that_a_user_installed_come_first() {
        let candidates = command(config("tool")).unwrap().candidates;
        assert_eq!(
            candidates[..2],
            [c"/home/bob/.local/bin/tool", c"/usr/local/sbin/tool"].map(ToOwned::to_owned)
        );
    }

    #[test]
    fn the_directory_is_home_unless_named() {
        assert_eq!(command(config("x")).unwrap().cwd, c"/home/bob".to_owned());
        let named = ProcessConfig { cwd: Some("sub".into()), ..config("x") };
        assert_eq!(command(named).unwrap().cwd, c"/home/bob/sub".to_owned());
    }

    #[test]
    fn refuses_what_the_kernel_cannot_be_told() {
        assert!(command(config("")).is_err());
        assert!(command(config("a\0b")).is_err());
        let mut bad = config("x");
        bad.envs.insert("A=B".into(), "c".into());
        assert!(command(bad).is_err());
    }
}
