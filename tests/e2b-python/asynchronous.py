"""A program written with E2B's asynchronous Python SDK: two sandboxes at once."""
import asyncio
import os
from collections.abc import AsyncIterator
from e2b import AsyncSandbox, CommandExitException, PtySize, SandboxNotRunningException


async def pieces() -> AsyncIterator[bytes]:
    for number in range(8):
        yield bytes([number]) * 65_536


async def streams(box: AsyncSandbox) -> None:
    await box.files.write("pieces", pieces())
    stream = await box.files.read("pieces", format="stream")
    assert b"".join([piece async for piece in stream]) == b"".join([piece async for piece in pieces()])

    cat = await box.commands.run("cat", background=True, stdin=True)
    async with box.commands.stream_input(cat.pid) as typed:
        for number in range(3):
            await typed.send(f"{number}\n")
    await cat.close_stdin()
    assert (await cat.wait()).stdout == "0\n1\n2\n", cat.stdout

    shown = bytearray()
    size_shown = asyncio.Event()

    async def show(data: bytes) -> None:
        shown.extend(data)
        if b"33 111" in shown:
            size_shown.set()

    terminal = await box.pty.create(PtySize(rows=24, cols=80), on_data=show)
    await box.pty.resize(terminal.pid, PtySize(rows=33, cols=111))
    await box.pty.send_stdin(terminal.pid, b"stty size\n")
    await asyncio.wait_for(size_shown.wait(), 60)
    assert await box.pty.kill(terminal.pid)
    try:
        await terminal.wait()
        raise AssertionError("it was not killed")
    except CommandExitException:
        pass


async def one(name: str) -> None:
    box = await AsyncSandbox.create(timeout=600)
    try:
        await box.files.write("name", name)
        said: list[str] = []
        ran = await box.commands.run("cat name; hostname", on_stdout=lambda text: said.append(text))
        assert ran.stdout == f"{name}{box.sandbox_id}\n" == "".join(said), ran
        seen = asyncio.Event()
        watch = await box.files.watch_dir(".", on_event=lambda event: seen.set())
        await box.files.write("other", "x")
        await asyncio.wait_for(seen.wait(), 60)
        await watch.stop()
        await streams(box)
    finally:
        assert await box.kill()
    assert not await box.kill() and not await box.is_running()
    try:
        await box.commands.run("true")
        raise AssertionError("it ran")
    except SandboxNotRunningException:
        pass


async def main() -> None:
    await asyncio.gather(one("first"), one("second"))
    print("done", flush=True)


asyncio.run(main())
# The SDK's HTTP library has threads of its own, and may abort an interpreter that is taken down beside them.
os._exit(0)
