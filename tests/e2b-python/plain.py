"""A program written with E2B's Python SDK: nothing in it names Perch."""
import os
from e2b import (
    CommandExitException,
    FilesystemEventType,
    FileType,
    NotFoundException,
    Sandbox,
    SandboxQuery,
    TimeoutException,
)

box = Sandbox.create(metadata={"by": "python"}, envs={"COLOUR": "red"}, timeout=600)
try:
    assert box.is_running()
    info = box.get_info()
    assert info.metadata == {"by": "python"} and info.state.value == "running", info
    listed = Sandbox.list(query=SandboxQuery(metadata={"by": "python"})).next_items()
    assert [one.sandbox_id for one in listed] == [box.sandbox_id], listed

    ran = box.commands.run('echo "$COLOUR $SIZE"; pwd; id -un', envs={"SIZE": "big"}, cwd="/tmp", user="root")
    assert ran.stdout == "red big\n/tmp\nroot\n", ran
    try:
        box.commands.run("echo no; exit 3")
        raise AssertionError("it did not fail")
    except CommandExitException as error:
        assert (error.exit_code, error.stdout) == (3, "no\n"), error
    try:
        box.commands.run("sleep 60", timeout=1)
        raise AssertionError("it was not timed out")
    except TimeoutException:
        pass
    said = []
    cat = box.commands.run("cat", background=True, stdin=True)
    box.commands.send_stdin(cat.pid, "hello\n")
    box.commands.close_stdin(cat.pid)
    assert cat.wait(on_stdout=said.append).exit_code == 0 and "".join(said) == "hello\n", said
    streamed = box.commands.run("cat", background=True, stdin=True)
    box.commands.stream_input(streamed.pid, (f"{n}\n" for n in range(3)))
    box.commands.close_stdin(streamed.pid)
    assert streamed.wait().stdout == "0\n1\n2\n"
    sleeper = box.commands.run("sleep 600", background=True)
    assert sleeper.kill()
    try:
        sleeper.wait()
        raise AssertionError("it was not killed")
    except CommandExitException:
        pass
    # A process can be killed until it has ended, which takes it a moment.
    assert not box.commands.kill(sleeper.pid)

    box.files.write("dir/a b.txt", "text")
    assert box.files.read("dir/a b.txt") == "text"
    box.files.write("/tmp/bytes", bytes(range(256)) * 256)
    assert bytes(box.files.read("/tmp/bytes", format="bytes")) == bytes(range(256)) * 256
    assert box.files.make_dir("dir/in") and not box.files.make_dir("dir/in")
    assert [(one.name, one.type) for one in box.files.list("dir")] == [("a b.txt", FileType.FILE), ("in", FileType.DIR)]
    box.files.rename("dir/a b.txt", "dir/c.txt")
    assert (box.files.exists("dir/a b.txt"), box.files.exists("dir/c.txt")) == (False, True)
    watch = box.files.watch_dir("dir")
    box.files.write("dir/new", "x")
    events = [(one.type, one.name) for one in watch.get_new_events()]
    kinds = [FilesystemEventType.CREATE, FilesystemEventType.CHMOD, FilesystemEventType.WRITE]
    assert events == [(kind, "new") for kind in kinds], events
    watch.stop()
    watch = box.files.watch_dir("dir", recursive=True)
    box.files.make_dir("dir/later")
    box.files.write("dir/later/new", "x")
    events = [(one.type, one.name) for one in watch.get_new_events()]
    assert events[0] == (FilesystemEventType.CREATE, "later"), events
    assert (FilesystemEventType.WRITE, "later/new") in events, events
    watch.stop()
    box.files.remove("dir")
    try:
        box.files.read("dir/c.txt")
        raise AssertionError("it was there")
    except NotFoundException:
        pass

    assert box.pause() is not False
    assert not box.is_running()
    same = Sandbox.connect(box.sandbox_id, timeout=600)
    assert same.is_running() and box.commands.run("echo on").stdout == "on\n"
    figures = box.get_metrics()
    assert figures and figures[0].mem_total > 0, figures
    assert box.get_host(80).startswith(f"80-{box.sandbox_id}.{os.environ.get('E2B_DOMAIN', 'localhost:')}")
    snapshot = box.create_snapshot()
    assert Sandbox.delete_snapshot(snapshot.snapshot_id)
finally:
    assert box.kill()
assert not box.kill() and not box.is_running()
print("done", flush=True)
# The SDK's HTTP library has threads of its own, and may abort an interpreter that is taken down beside them.
os._exit(0)
