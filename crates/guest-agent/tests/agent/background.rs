use std::time::{Duration, Instant};

use crate::support::{Agent, alive, eventually, pid_in};

#[tokio::test]
async fn a_child_that_holds_the_output_open_does_not_stall_the_end() {
    let agent = Agent::start().await;
    let begun = Instant::now();
    let output = agent.run("echo before; sleep 1000 & exit 5").await;
    assert!(begun.elapsed() < Duration::from_secs(500));
    assert_eq!((output.text(), &output.end["exitCode"]), ("before\n", &5.into()));
}

#[tokio::test]
async fn a_child_that_never_stops_writing_does_not_stall_the_end() {
    let agent = Agent::start().await;
    let output = agent.run("yes & exit 6").await;
    assert_eq!(output.end["exitCode"], 6);
}

#[tokio::test]
async fn output_that_follows_at_once_is_not_lost() {
    let agent = Agent::start().await;
    let fifo = agent.path("fifo");
    // It says it once the end of the shell has closed the other side.
    let script = "mkfifo FIFO; (read -r end < FIFO; echo late) & exec 3> FIFO; exit 0";
    let output = agent.run(&script.replace("FIFO", fifo.to_str().unwrap())).await;
    assert_eq!(output.text(), "late\n");
}

#[tokio::test]
async fn what_is_left_running_can_go_on_writing() {
    let agent = Agent::start().await;
    let (pid, done) = (agent.path("pid"), agent.path("done"));
    let script = format!(
        "(sleep 0.5; head -c 1000000 /dev/zero; echo > {}; sleep 1000) & echo $! > {}",
        done.display(),
        pid.display()
    );
    let output = agent.run(&script).await;
    assert_eq!(output.end["exitCode"], 0);
    let pid = pid_in(&pid).await;
    eventually("a megabyte was written", || done.exists()).await;
    assert!(alive(pid));
}
