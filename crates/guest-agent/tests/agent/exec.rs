use serde_json::json;

use crate::support::{Agent, Events};

#[tokio::test]
async fn a_command_gives_its_output_and_exit_code() {
    let agent = Agent::start().await;
    let output = agent.run("echo out; echo err >&2; exit 3").await;
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    let text = "exit status 3";
    let end = json!({ "exitCode": 3, "exited": true, "status": text, "error": text });
    assert_eq!(output.end, end);
    assert!(output.error.is_null());
}

#[tokio::test]
async fn success_has_no_error() {
    let agent = Agent::start().await;
    let output = agent.run("true").await;
    assert_eq!(output.end, json!({ "exitCode": 0, "exited": true, "status": "exit status 0" }));
}

#[tokio::test]
async fn every_byte_comes_back_as_it_was() {
    let agent = Agent::start().await;
    let output = agent.run(r"printf '\377\000\n\303('").await;
    assert_eq!(output.stdout, b"\xff\0\n\xc3(");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_not_found() {
    let agent = Agent::start().await;
    for name in ["perch-no-such-command", "/no/such/command"] {
        let start = agent.stream("Start", json!({ "process": { "cmd": name } }));
        let output = Events::open(start).await.collect().await;
        let message = format!("command not found: {name}");
        assert_eq!(output.error, json!({ "code": "not_found", "message": message }));
        assert_eq!(output.pid, 0);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_executed_is_denied() {
    let agent = Agent::start().await;
    let file = agent.path("plain");
    std::fs::write(&file, "text").unwrap();
    for path in [file.to_str().unwrap(), "/"] {
        let start = agent.stream("Start", json!({ "process": { "cmd": path } }));
        let output = Events::open(start).await.collect().await;
        assert_eq!(output.error["code"], "permission_denied", "{path}");
    }
}

#[tokio::test]
async fn commands_are_found_in_the_path_of_the_request() {
    let agent = Agent::start().await;
    let tool = agent.path("perch-tool");
    std::fs::write(&tool, "#!/bin/sh\necho found\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = agent.folder.path();
    let absolute = json!({ "cmd": "perch-tool", "envs": { "PATH": path } });
    let relative = json!({ "cmd": "./perch-tool", "cwd": path });
    for process in [absolute, relative] {
        let start = agent.stream("Start", json!({ "process": process }));
        assert_eq!(Events::open(start).await.collect().await.text(), "found\n");
    }
}

#[tokio::test]
async fn the_working_directory_must_exist() {
    let agent = Agent::start().await;
    let process = json!({ "cmd": "pwd", "cwd": "/no/such/place" });
    let start = agent.stream("Start", json!({ "process": process }));
    let error = Events::open(start).await.collect().await.error;
    let message = "cwd '/no/such/place' does not exist";
    assert_eq!(error, json!({ "code": "invalid_argument", "message": message }));
}

#[tokio::test]
async fn the_environment_is_the_sandboxes_and_the_requests() {
    let agent = Agent::start().await;
    let envs = json!({ "FROM_SANDBOX": "overridden", "OWN": "a b" });
    let process = json!({ "cmd": "env", "envs": envs });
    let start = agent.stream("Start", json!({ "process": process }));
    let output = Events::open(start).await.collect().await;
    let mut lines: Vec<&str> = output.text().lines().collect();
    lines.retain(|line| !line.starts_with("HOME=") && !line.contains("USER="));
    lines.retain(|line| !line.starts_with("LOGNAME=") && !line.starts_with("SHELL="));
    let path = lines.iter().position(|line| line.starts_with("PATH=")).unwrap();
    let path = lines.remove(path);
    assert!(
        path.ends_with("/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    );
    lines.sort_unstable();
    let expected = [
        "E2B_SANDBOX=true",
        "E2B_SANDBOX_ID=i123",
        "E2B_TEMPLATE_ID=base",
        "FROM_SANDBOX=overridden",
        "LANG=C.UTF-8",
        "OWN=a b",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_command_inherits_nothing_of_the_agents() {
    let agent = Agent::start().await;
    let script = "ls /proc/self/fd | tr '\\n' ' '; grep -E 'Sig(Blk|Ign)' /proc/self/status; umask";
    let output = agent.run(script).await;
    // 3 is the directory that ls reads.
    assert!(output.text().starts_with("0 1 2 3 "), "{}", output.text());
    assert_eq!(output.text().matches("\t0000000000000000\n").count(), 2, "{}", output.text());
    assert!(output.text().ends_with("0022\n"), "{}", output.text());
}

#[tokio::test]
async fn many_commands_run_at_once() {
    let agent = Agent::start().await;
    let runs = (0..50).map(|number| {
        let script = format!("sleep 0.05; echo {number}; exit {number}");
        let start = agent.sh(&script);
        async move { (number, Events::open(start).await.collect().await) }
    });
    for (number, output) in futures_util::future::join_all(runs).await {
        assert_eq!(output.text(), format!("{number}\n"));
        assert_eq!(output.end["exitCode"], number);
    }
    let list = agent.call("process.Process/List", json!({})).await.unwrap();
    assert_eq!(list, json!({ "processes": [] }));
}
