"""A program written with E2B's asynchronous Python SDK: two sandboxes at once."""
import asyncio
import os
from e2b import AsyncSandbox


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
        await asyncio.wait_for(seen.wait(), 20)
        await watch.stop()
    finally:
        assert await box.kill()


async def main() -> None:
    await asyncio.gather(one("first"), one("second"))
    print("done", flush=True)


asyncio.run(main())
# The SDK's HTTP library has threads of its own, and may abort an interpreter that is taken down beside them.
os._exit(0)
