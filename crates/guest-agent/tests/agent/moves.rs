//! Between file systems, which no rename leads over. /dev/shm is one of its own on every system.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::{Value, json};

use crate::support::{Agent, is_root, program};

/// A folder on another file system than the agent's.
struct Elsewhere(tempfile::TempDir);

impl Elsewhere {
    fn new(agent: &Agent) -> Self {
        let folder = tempfile::Builder::new().prefix("perch-test-").tempdir_in("/dev/shm").unwrap();
        let devices =
            [folder.path(), agent.folder.path()].map(|path| path.metadata().unwrap().dev());
        assert_ne!(devices[0], devices[1]);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

async fn relocate(agent: &Agent, source: &Path, destination: &Path) -> Result<Value, Value> {
    let message = json!({ "source": source, "destination": destination });
    agent.call("filesystem.Filesystem/Move", message).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// The parts of a tree that a move keeps, path by path.
fn facts(root: &Path) -> Vec<(PathBuf, u32, u32, u32, i64, i64)> {
    let mut facts = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let status = path.symlink_metadata().unwrap();
        if status.is_dir() {
            ahead.extend(names(&path).iter().map(|name| path.join(name)));
        }
        let shown = path.strip_prefix(root).unwrap().to_owned();
        let (mode, uid, gid) = (status.mode(), status.uid(), status.gid());
        facts.push((shown, mode, uid, gid, status.mtime(), status.mtime_nsec()));
    }
    facts
}

#[tokio::test]
async fn a_tree_is_moved_to_another_file_system_as_it_is() {
    let agent = Agent::start().await;
    let elsewhere = Elsewhere::new(&agent);
    let tree = agent.path("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/file"), vec![7; 700_000]).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    symlink("nowhere", tree.join("a/link")).unwrap();
    assert!(Command::new("mkfifo").arg(tree.join("fifo")).status().unwrap().success());
    if is_root() {
        chown(tree.join("a/file"), Some(12), Some(34)).unwrap();
        std::os::unix::fs::lchown(tree.join("a/link"), Some(56), Some(78)).unwrap();
    }
    fs::set_permissions(tree.join("a/file"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(tree.join("a/b"), Permissions::from_mode(0o1700)).unwrap();
    let past = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["a/b", "a/file", "a", ""] {
        let times = FileTimes::new().set_modified(past);
        File::open(tree.join(name)).unwrap().set_times(times).unwrap();
    }
    let before = facts(&tree);
    let moved = relocate(&agent, &tree, &elsewhere.path("new/tree")).await.unwrap();
    assert_eq!(moved["entry"]["type"], "FILE_TYPE_DIRECTORY");
    let after = elsewhere.path("new/tree");
    assert_eq!(facts(&after), before);
    assert_eq!(fs::read(after.join("a/file")).unwrap(), vec![7; 700_000]);
    assert_eq!(fs::read_link(after.join("a/link")).unwrap(), Path::new("nowhere"));
    assert!(names(agent.folder.path()).is_empty());
    assert_eq!(names(&elsewhere.path("new")), ["tree"]);
}

#[tokio::test]
async fn a_file_is_moved_over_another_and_its_holes_stay_holes() {
    let agent = Agent::start().await;
    let elsewhere = Elsewhere::new(&agent);
    let source = elsewhere.path("sparse");
    let file = File::create(&source).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"deep", 800 << 20).unwrap();
    fs::write(agent.path("target"), "earlier").unwrap();
    relocate(&agent, &source, &agent.path("target")).await.unwrap();
    let status = agent.path("target").metadata().unwrap();
    assert_eq!(status.len(), 1 << 30);
    assert!(status.blocks() < 4096, "{} blocks", status.blocks());
    let mut bytes = [0; 4];
    let file = File::open(agent.path("target")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 800 << 20).unwrap();
    assert_eq!(&bytes, b"deep");
    assert!(names(elsewhere.0.path()).is_empty());
    assert!(agent.peak_memory() < 48 << 10, "{} KiB", agent.peak_memory());
}

#[tokio::test]
async fn what_a_rename_would_refuse_leaves_both_ends_as_they_were() {
    let agent = Agent::start().await;
    let elsewhere = Elsewhere::new(&agent);
    let (file, folder) = (agent.path("file"), agent.path("folder"));
    fs::write(&file, "source").unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(elsewhere.path("file"), "target").unwrap();
    fs::create_dir_all(elsewhere.path("folder/full")).unwrap();
    for (source, target, reason) in [
        (&file, "folder", "not_file"),
        (&folder, "file", "not_directory"),
        (&folder, "folder", "not_empty"),
    ] {
        let error = relocate(&agent, source, &elsewhere.path(target)).await.unwrap_err();
        assert_eq!((&error["reason"], &error["status"]), (&reason.into(), &400.into()));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "source");
    assert_eq!(fs::read_to_string(elsewhere.path("file")).unwrap(), "target");
    assert_eq!(names(agent.folder.path()), ["file", "folder"]);
    assert_eq!(names(elsewhere.0.path()), ["file", "folder"]);
}

/// An agent in a mount namespace of its own.
async fn with_mounts() -> Agent {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(program().get_program());
    let agent = Agent::spawn(command.args(["serve", "--listen", "127.0.0.1:0"]));
    let init = agent.post("/init").json(&crate::support::init(1)).send().await.unwrap();
    assert_eq!(init.status(), 200);
    agent
}

async fn run(agent: &Agent, script: &str) {
    let script = format!("cd {} && {script}", agent.folder.path().display());
    let output = agent.run(&script).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.end["exitCode"], 0, "{said}");
}

#[tokio::test]
async fn a_mount_is_busy_and_what_holds_one_is_not_taken_apart() {
    if !is_root() {
        return;
    }
    let agent = with_mounts().await;
    let elsewhere = Elsewhere::new(&agent);
    run(&agent, "mkdir -p tree/mount other; touch tree/file other/x").await;
    run(&agent, "touch bound; mount --bind other tree/mount; mount --bind tree/file bound").await;
    let mounts = [agent.path("bound"), agent.path("tree/mount")];
    for mount in &mounts {
        for error in [
            relocate(&agent, mount, &agent.path("new")).await.unwrap_err(),
            relocate(&agent, mount, &elsewhere.path("new")).await.unwrap_err(),
        ] {
            assert_eq!(
                (&error["code"], &error["reason"]),
                (&"failed_precondition".into(), &"busy".into())
            );
        }
    }
    let remove = json!({ "path": agent.path("bound") });
    let removed = agent.call("filesystem.Filesystem/Remove", remove).await;
    assert_eq!(removed.unwrap_err()["reason"], "busy");
    let tree = relocate(&agent, &agent.path("tree"), &elsewhere.path("new")).await.unwrap_err();
    assert_eq!(tree["reason"], "busy");
    // A directory that lies in itself by way of a mount has no end either.
    let within = relocate(&agent, &agent.path("tree"), &agent.path("tree/mount/new")).await;
    assert_eq!(within.unwrap_err()["reason"], "busy");
    assert!(names(elsewhere.0.path()).is_empty());
    run(
        &agent,
        "test -e tree/file && test -e tree/mount/x && test $(ls -A tree/mount | wc -l) = 1",
    )
    .await;
    let upload = format!("/files?path={}", agent.path("bound").display());
    let request = agent.post(&upload).header("Content-Type", "application/octet-stream").body("x");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 409);
    assert_eq!(answer.json::<Value>().await.unwrap()["reason"], "busy");
}

#[tokio::test]
async fn a_failed_move_leaves_no_directory_that_was_made_for_it() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("tree")).unwrap();
    // Into itself.
    relocate(&agent, &agent.path("tree"), &agent.path("tree/deep/er/tree")).await.unwrap_err();
    assert!(names(&agent.path("tree")).is_empty());
}

#[tokio::test]
async fn a_removal_of_what_holds_a_mount_removes_nothing() {
    if !is_root() {
        return;
    }
    let agent = with_mounts().await;
    run(&agent, "mkdir -p tree/a 'tree/z mount' other/deep; touch tree/a/file other/deep/x").await;
    run(&agent, "ln -s . again; mount --bind other 'tree/z mount'").await;
    for name in ["tree", "tree/z mount", "again/tree", "again/tree/z mount"] {
        let remove = json!({ "path": agent.path(name) });
        let error = agent.call("filesystem.Filesystem/Remove", remove).await.unwrap_err();
        assert_eq!(error["reason"], "busy", "{name}");
        run(&agent, "test -e tree/a/file && test -e 'tree/z mount/deep/x'").await;
    }
    run(&agent, "umount 'tree/z mount'").await;
    for name in ["again", "tree"] {
        let remove = json!({ "path": agent.path(name) });
        agent.call("filesystem.Filesystem/Remove", remove).await.unwrap();
    }
    assert_eq!(names(agent.folder.path()), ["other"]);
    assert!(agent.path("other/deep/x").exists());
}

#[tokio::test]
async fn a_tree_with_a_file_that_cannot_be_removed_is_not_moved() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let elsewhere = Elsewhere::new(&agent);
    let tree = agent.path("tree");
    for flag in ["i", "a"] {
        for kept in ["z/kept", "z"] {
            run(&agent, "mkdir -p tree/a tree/z; touch tree/a/file tree/z/kept").await;
            run(&agent, &format!("chattr +{flag} tree/{kept}")).await;
            let error = relocate(&agent, &tree, &elsewhere.path("new")).await.unwrap_err();
            run(&agent, &format!("chattr -{flag} tree/{kept}")).await;
            assert_eq!(error["reason"], "denied", "{flag} {kept}");
            assert_eq!(names(agent.folder.path()), ["tree"]);
            assert!(tree.join("a/file").exists() && tree.join("z/kept").exists());
            assert!(names(elsewhere.0.path()).is_empty());
        }
    }
}

#[tokio::test]
async fn a_source_of_which_a_part_stays_keeps_its_name_and_the_destination_is_whole() {
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let prepare = || Ok(remove_capability_from_bounding_set(CapabilitySet::DAC_OVERRIDE)?);
    // SAFETY: the closure only makes a system call, which is what may be done between fork and exec.
    let agent = Agent::spawn(unsafe { command.pre_exec(prepare) });
    let init = agent.post("/init").json(&crate::support::init(1)).send().await.unwrap();
    assert_eq!(init.status(), 200);
    let elsewhere = Elsewhere::new(&agent);
    let tree = agent.path("tree");
    fs::create_dir_all(tree.join("closed")).unwrap();
    fs::write(tree.join("closed/file"), "x").unwrap();
    fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o555)).unwrap();
    let error = relocate(&agent, &tree, &elsewhere.path("new")).await.unwrap_err();
    assert_eq!(error["reason"], "io", "{error}");
    assert_eq!(names(agent.folder.path()), ["tree"]);
    assert_eq!(fs::read(tree.join("closed/file")).unwrap(), b"x");
    assert_eq!(names(elsewhere.0.path()), ["new"]);
    assert_eq!(fs::read(elsewhere.path("new/closed/file")).unwrap(), b"x");
    for closed in [tree.join("closed"), elsewhere.path("new/closed")] {
        fs::set_permissions(closed, Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_removed_stays_and_nothing_is_left_at_the_destination() {
    if !is_root() {
        return;
    }
    let agent = with_mounts().await;
    let elsewhere = Elsewhere::new(&agent);
    run(&agent, "mkdir ro; touch ro/file; mount --bind ro ro; mount -o remount,bind,ro ro").await;
    let error = relocate(&agent, &agent.path("ro/file"), &elsewhere.path("new")).await.unwrap_err();
    assert_eq!(
        (&error["code"], &error["reason"]),
        (&"permission_denied".into(), &"read_only".into())
    );
    assert!(names(elsewhere.0.path()).is_empty());
    let full = elsewhere.path("small");
    fs::create_dir(&full).unwrap();
    run(&agent, &format!("mount -t tmpfs -o size=64k small {}", full.display())).await;
    fs::write(agent.path("big"), vec![1; 200_000]).unwrap();
    let error = relocate(&agent, &agent.path("big"), &full.join("big")).await.unwrap_err();
    assert_eq!((&error["code"], &error["reason"]), (&"resource_exhausted".into(), &"full".into()));
    run(&agent, &format!("test $(ls -A {} | wc -l) = 0", full.display())).await;
    assert_eq!(fs::read(agent.path("big")).unwrap().len(), 200_000);
}

#[tokio::test]
async fn an_error_of_a_move_tells_which_of_the_two_paths_it_is_about() {
    if !is_root() {
        return;
    }
    let agent = with_mounts().await;
    let elsewhere = Elsewhere::new(&agent);
    run(&agent, "mkdir -p ro full/x dir mount hard; touch one ro/file mount/x").await;
    run(&agent, "mount --bind ro ro; mount -o remount,bind,ro ro; mount --bind mount mount").await;
    run(&agent, "chattr +i hard").await;
    fs::create_dir_all(elsewhere.path("full/x")).unwrap();
    let (one, dir) = (agent.path("one"), agent.path("dir"));
    let cases = [
        (agent.path("missing"), agent.path("new"), "missing", "source"),
        (dir.clone(), agent.path("full"), "not_empty", "destination"),
        (dir.clone(), elsewhere.path("full"), "not_empty", "destination"),
        (dir.clone(), one.clone(), "not_directory", "destination"),
        (dir.clone(), one.join("below/new"), "not_directory", "destination"),
        (one.clone(), agent.path("full"), "not_file", "destination"),
        (one.clone(), elsewhere.path("full"), "not_file", "destination"),
        (one.clone(), agent.path("ro/one"), "read_only", "destination"),
        (one.clone(), agent.path("ro/new/one"), "read_only", "destination"),
        (agent.path("ro/file"), agent.path("new"), "read_only", "source"),
        (agent.path("mount"), agent.path("new"), "busy", "source"),
        (dir.clone(), PathBuf::from("/proc/new"), "unsupported", "destination"),
        (one.clone(), agent.path("hard/one"), "denied", "destination"),
        (PathBuf::from("/proc/version"), agent.path("new"), "unsupported", "source"),
    ];
    let told: Vec<Value> = {
        let mut told = Vec::new();
        for (source, destination, ..) in &cases {
            told.push(relocate(&agent, source, destination).await.unwrap_err());
        }
        told
    };
    let root = relocate(&agent, &one, Path::new("/")).await.unwrap_err();
    run(&agent, "chattr -i hard").await;
    for ((source, destination, reason, subject), error) in cases.iter().zip(&told) {
        let case = format!("{} to {}: {error}", source.display(), destination.display());
        assert_eq!(
            (&error["reason"], &error["subject"]),
            (&(*reason).into(), &(*subject).into()),
            "{case}"
        );
    }
    assert_eq!(root["subject"], "destination", "{root}");
    assert_eq!(names(agent.folder.path()), ["dir", "full", "hard", "mount", "one", "ro"]);
}
