//! Users and groups of the guest, read from /etc/passwd and /etc/group.
//!
//! A static program has no name service switch, so the files are the whole truth. They are read
//! afresh each time: a command may have added a user a moment ago.

mod database;

use std::path::{Path, PathBuf};

use database::{Group, Passwd};

/// A user that a process can run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    pub home: PathBuf,
    /// Login shell.
    pub shell: String,
    /// Primary and supplementary groups.
    pub groups: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct UnknownUser(pub String);

impl std::fmt::Display for UnknownUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid username: '{}'", self.0)
    }
}

/// The user of that name.
pub fn find(name: &str) -> Result<User, UnknownUser> {
    let passwd = database::read(Path::new("/etc/passwd"));
    let group = database::read(Path::new("/etc/group"));
    lookup(&passwd, &group, name)
}

/// The name of the user that this process runs as.
pub fn current() -> String {
    Names::load().user(rustix::process::geteuid().as_raw())
}

fn lookup(passwd: &str, group: &str, name: &str) -> Result<User, UnknownUser> {
    let entry = database::passwd(passwd)
        .find(|entry| entry.name == name)
        .ok_or_else(|| UnknownUser(name.to_owned()))?;
    let mut groups = vec![entry.gid];
    for group in database::groups(group) {
        if group.members.split(',').any(|member| member == name) && !groups.contains(&group.gid) {
            groups.push(group.gid);
        }
    }
    let home = if entry.home.starts_with('/') { entry.home } else { "/" };
    // passwd(5): an empty field is this one.
    let shell = if entry.shell.is_empty() { "/bin/sh" } else { entry.shell };
    Ok(User {
        name: name.to_owned(),
        uid: entry.uid,
        gid: entry.gid,
        home: home.into(),
        shell: shell.to_owned(),
        groups,
    })
}

/// Names of user and group ids, for listings: both files are read once.
pub struct Names {
    passwd: String,
    group: String,
}

impl Names {
    pub fn load() -> Self {
        Self {
            passwd: database::read(Path::new("/etc/passwd")),
            group: database::read(Path::new("/etc/group")),
        }
    }

    /// The user's name, or the number of a user without one.
    pub fn user(&self, uid: u32) -> String {
        let mut entries = database::passwd(&self.passwd);
        entries
            .find(|Passwd { uid: id, .. }| *id == uid)
            .map_or_else(|| uid.to_string(), |entry| entry.name.to_owned())
    }

    /// The group's name, or the number of a group without one.
    pub fn group(&self, gid: u32) -> String {
        let mut entries = database::groups(&self.group);
        entries
            .find(|Group { gid: id, .. }| *id == gid)
            .map_or_else(|| gid.to_string(), |entry| entry.name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken line\n# bob:x:1:1::/:\n\
        user:x:1000:1000:,,,:/home/user:/bin/bash\nodd:x:1001:7::relative:/bin/sh\nbad:x:a:b::/:\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:other,user\nuser:x:1000:user\nbad:x::user\n";

    #[test]
    fn finds_a_user_with_all_groups_once() {
        let user = lookup(PASSWD, GROUP, "user").unwrap();
        assert_eq!((user.uid, user.gid), (1000, 1000));
        assert_eq!(user.home, Path::new("/home/user"));
        assert_eq!(user.groups, [1000, 27]);
        assert_eq!(user.shell, "/bin/bash");
    }

    #[test]
    fn a_user_without_a_shell_has_the_system_s() {
        assert_eq!(lookup("a:x:1:1::/:\n", "", "a").unwrap().shell, "/bin/sh");
    }

    #[test]
    fn a_home_that_is_not_absolute_is_the_root() {
        assert_eq!(lookup(PASSWD, GROUP, "odd").unwrap().home, Path::new("/"));
    }

    #[test]
    fn lines_that_are_no_entries_are_skipped() {
        for name in ["broken line", "# bob", "bad", "", "nobody"] {
            let error = lookup(PASSWD, GROUP, name).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid username: '{name}'"));
        }
    }

    #[test]
    fn ids_without_a_name_are_numbers() {
        let names = Names { passwd: PASSWD.into(), group: GROUP.into() };
        assert_eq!((names.user(0), names.user(77)), ("root".into(), "77".into()));
        assert_eq!((names.group(27), names.group(77)), ("sudo".into(), "77".into()));
    }
}
