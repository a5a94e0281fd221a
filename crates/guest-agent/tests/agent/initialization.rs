use serde_json::{Value, json};

use crate::support::{Agent, Events, TOKEN, alive, answer, init};

#[tokio::test]
async fn an_ordinary_process_confirms_only_what_it_may_change() {
    let agent = Agent::uninitialized();
    let answer = agent.call("init", init(4)).await.unwrap();
    let confirmed = json!(["token", "environment", "user"]);
    assert_eq!(answer, json!({ "generation": 4, "confirmed": confirmed }));
}

#[tokio::test]
async fn the_same_again_is_no_error_and_an_earlier_generation_is() {
    let agent = Agent::uninitialized();
    agent.call("init", init(4)).await.unwrap();
    agent.call("init", init(4)).await.unwrap();
    let error = agent.call("init", init(3)).await.unwrap_err();
    assert_eq!((&error["status"], &error["code"]), (&409.into(), &409.into()));
}

#[tokio::test]
async fn a_new_token_replaces_the_one_that_was_presented() {
    let agent = Agent::start().await;
    let mut next = init(2);
    next["accessToken"] = "next".into();
    let stranger = agent.client.post(agent.url("/init")).json(&next);
    assert_eq!(answer(stranger).await.unwrap_err()["status"], 401);
    agent.call("init", next).await.unwrap();
    assert_eq!(agent.get("/envs").send().await.unwrap().status(), 401);
    let owner = agent.client.get(agent.url("/envs")).header("X-Access-Token", "next");
    assert_eq!(owner.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_wrong_request_changes_nothing() {
    let agent = Agent::start().await;
    let wrong: [(&str, Value); 9] = [
        ("defaultUser", "perch-no-such-user".into()),
        ("timestamp", "yesterday".into()),
        ("entropy", "AAAA".into()),
        ("hostname", "a b".into()),
        ("machineId", "xyz".into()),
        ("accessToken", "".into()),
        ("envVars", json!({ "A=B": "c" })),
        ("defaultWorkdir", "relative".into()),
        ("generation", "two".into()),
    ];
    for (field, value) in wrong {
        let mut request = init(2);
        request["envVars"] = json!({ "CHANGED": "1" });
        request[field] = value;
        let error = agent.call("init", request).await.unwrap_err();
        assert_eq!(error["status"], 400, "{field}");
    }
    let envs: Value = agent.get("/envs").send().await.unwrap().json().await.unwrap();
    assert_eq!(envs, json!({ "FROM_SANDBOX": "yes" }));
    agent.call("init", init(1)).await.unwrap();
}

#[tokio::test]
async fn what_a_later_request_leaves_out_stays() {
    let agent = Agent::uninitialized();
    let folder = agent.folder.path().canonicalize().unwrap();
    let mut first = init(1);
    first["defaultWorkdir"] = folder.to_str().unwrap().into();
    agent.call("init", first).await.unwrap();
    let mut second = init(2);
    second.as_object_mut().unwrap().remove("envVars");
    agent.call("init", second).await.unwrap();
    let output = agent.run("pwd; echo $FROM_SANDBOX").await;
    assert_eq!(output.text(), format!("{}\nyes\n", folder.display()));
    let mut third = init(3);
    third["envVars"] = json!({});
    third["defaultWorkdir"] = "".into();
    agent.call("init", third).await.unwrap();
    let output = agent.run("pwd; echo $FROM_SANDBOX; echo $HOME").await;
    let [place, variable, home] = output.text().lines().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((place, variable), (home, ""));
}

#[tokio::test]
async fn the_default_directory_is_where_commands_and_paths_start() {
    let agent = Agent::uninitialized();
    let folder = agent.folder.path().canonicalize().unwrap();
    let mut request = init(1);
    request["defaultWorkdir"] = folder.to_str().unwrap().into();
    agent.call("init", request).await.unwrap();
    assert_eq!(agent.run("pwd").await.text(), format!("{}\n", folder.display()));
    std::fs::write(folder.join("here"), "").unwrap();
    agent.call("filesystem.Filesystem/Stat", json!({ "path": "here" })).await.unwrap();
}

#[tokio::test]
async fn a_new_generation_drops_old_connections_and_keeps_processes() {
    let agent = Agent::start().await;
    let mut events =
        Events::open(agent.sh("sleep 1000").header("Perch-Kill-On-Disconnect", "1")).await;
    let pid = events.pid().await;
    let answer = agent.call("init", init(2)).await.unwrap();
    assert_eq!(answer["generation"], 2);
    assert_eq!(events.next().await, None);
    assert!(alive(pid));
    let connect = agent.stream("Connect", json!({ "process": { "pid": pid } }));
    let mut again = Events::open(connect).await;
    assert_eq!(again.pid().await, pid);
    assert_eq!(agent.get("/envs").send().await.unwrap().status(), 200, "{TOKEN}");
}
